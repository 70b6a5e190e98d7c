from l3net.errors import UserError, first_line


def test_a_message_is_one_line_whatever_it_names():
    name = "a\nb\x1b[31m\u202e" + b"\xff".decode(errors="surrogateescape")
    text = str(UserError(f"cannot read {name}; do"))
    assert text == "cannot read a\\nb\\x1b[31m\\u202e\\udcff; do" and text.isprintable()
    long = str(UserError("cannot read " + "x" * 10**6 + "; name another"))
    assert len(long) < 2000 and long.startswith("cannot read x") and long.endswith("; name another")


def test_the_first_line_is_without_names_of_operations():
    error = RuntimeError("{{function_node __wrapped__SaveV2_device_/job:x}} ckpt; No space [Op:Y]")
    assert first_line(error) == "ckpt; No space"
    assert first_line(RuntimeError("")) == "RuntimeError"
    assert first_line(RuntimeError("\n a\nb")) == "a"
    assert len(first_line(RuntimeError("x" * 10**6))) < 1000
