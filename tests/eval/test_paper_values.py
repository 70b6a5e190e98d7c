import pytest

from eval.reporting import paper_values as paper


def test_a_number_belongs_to_its_data_set():
    l3 = {paper.FLICKR: 78.0, paper.KINETICS: 74.0}
    for data, number in l3.items():
        assert paper.values("avc_accuracy", data, "L3-Net") == {"accuracy": number}
    assert paper.values("avc_accuracy", paper.AUDIOSET, "AVE-Net") == {"accuracy": 81.9}
    assert paper.values("avc_accuracy", paper.KINETICS, "AVE-Net") == {}
    assert paper.values("table4 audio", paper.KINETICS, "Ours")["nmi"] == 0.33
    assert paper.values("retrieval", paper.AUDIOSET, "VGG16-ImageNet") == {"im_im": 0.6}
    for data in (None, paper.FLICKR, "somebody's clips"):
        assert paper.values("retrieval", data, "AVE-Net") == {}
        assert paper.methods("table3", data) == []


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("kinetics_sounds", paper.KINETICS),
        ("Kinetics-Sounds, 2026", paper.KINETICS),
        ("flickr_soundnet", paper.FLICKR),
        ("flickr_soundnet_test", None),
        ("audioset_instruments", paper.AUDIOSET),
        ("demo", None),
        ("kinetics400", None),
    ],
)
def test_folders_are_known_by_their_name(name, data):
    assert paper.data_set_of(name) == data


def test_another_size_is_remarked():
    assert paper.near(paper.KINETICS, 1870) == ""
    assert paper.near(paper.KINETICS, 3400) == "paper: about 1900 test clips, here 3400"
    assert paper.near(None, 3400) == ""
