"""Values of the tables' flags."""

import pytest

from eval.reporting import flags
from l3net.errors import UserError


@pytest.mark.parametrize(("text", "expected"), [("cv", None), ("0.01", 0.01), ("1e-3", 0.001)])
def test_a_positive_number_or_the_word(text, expected):
    assert flags.positive_or_word("svm_c", text, "cv") == expected


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "large", "", "choose"])
def test_anything_else_is_one_line_that_names_the_flag(text):
    with pytest.raises(UserError) as error:
        flags.positive_or_word("svm_c", text, "cv")
    assert str(error.value) == f'--svm_c={text}: need a positive number or "cv"'
