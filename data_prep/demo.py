"""Makes the demo data set: real .mp4 files of drawn objects that make synthesised sounds.

    python -m data_prep.demo --out_dir=data/demo/videos

This is SYNTHETIC data: it proves nothing about real data sets. 14 classes with AudioSet's names. As
in videos from the web, in one clip of thirty the sound has nothing to do with the picture, in one
of ten a second object is silent, and the labels say less than there is to see and to hear: a clip
is labelled with its family (musical instrument, percussion, tools); clips.csv has its class.

Files, below --out_dir:

    demo.json               configuration, counts, versions, and what this is
    manifest.csv            a clip's label is the family it belongs to
    clips.csv               example_id,split,label,heard_label,unrelated,silent_label,family: the
                            truth; `label` is the class that is seen
    boxes.csv               example_id,frame,time_seconds,ymin,xmin,ymax,xmax,label: the sounding
                            object in every frame at 25 fps, shares of height and width; clips
                            with unrelated sound have none, silent objects neither
    train/*.mp4 val/*.mp4 test/*.mp4
    .done/*.json            one commit marker per clip, with its boxes

A clip depends on the seed and its name only, so more clips or workers change no other.
"""

from data_prep.demo_data.data_set import Config, make_demo
from l3net import flags

if __name__ == "__main__":
    flags.run(make_demo, Config)
