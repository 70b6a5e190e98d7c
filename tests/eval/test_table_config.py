"""A positive number or a word in its place."""

import pytest

from eval.reporting.table_config import positive_or_word
from l3net.errors import UserError


@pytest.mark.parametrize(("text", "expected"), [("cv", None), ("0.01", 0.01), ("1e-3", 0.001)])
def test_a_positive_number_or_the_word(text, expected):
    assert positive_or_word("svm_c", text, "cv") == expected


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "large", "", "choose"])
def test_anything_else_is_one_line_that_names_the_flag(text):
    with pytest.raises(UserError) as error:
        positive_or_word("svm_c", text, "cv")
    assert str(error.value) == f'--svm_c={text}: need a positive number or "cv"'
