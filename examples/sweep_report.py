"""What runs made elsewhere can tell: a text detector's sweep, and a recommender's runs by hand.

pip install 'hpolab[report]'
HPOLAB_DATA=/data python examples/sweep_report.py

Both tables are read from $HPOLAB_DATA/seeds where they are there; else the copies below stand in.
Each becomes a study, so that all of `hpolab.analysis` works on it and a report is written.
"""

import os
from pathlib import Path

from hpolab import import_runs, influence, recommend, write_report
from hpolab.studies.imported import RUN_KEY

# H-mean of a text detector in percent, one run each; cells that were not published are missing.
DETECTION = """
run,lr,weight_decay,T_max,eta_min,epochs_run,h_mean
baseline,0.0004,0.0001,22,0.00001,22,96.53
8,0.0005134333170096499,6.797303101020006e-05,24,6.388390006720873e-06,10,96.60
3,0.0003845588887231477,0.00013939498132089153,22,1.8596851896215065e-05,22,96.47
4,0.000396,0.000080,22,1.93e-05,,96.31
2,0.000411,0.000123,22,1.88e-05,,96.29
7,0.000592,0.000066,24,6.38e-06,,96.29
10,0.000480,0.000098,,,,96.20
9,,0.000106,,,,96.03
5,,,24,,,95.64
"""
# A DeepFM tuned by hand, one parameter after the other, with dropout 0.4 and batches of 2,048. All
# optimizers had 5 epochs and only nadam had more: the influence of epochs is not theirs alone.
RECOMMENDER = """
run,optimizer,epochs,stopped_epoch,learning_rate,embed_dim,l2_reg_embedding,ndcg,hit_rate
1,adam,5,,0.0001,16,1e-5,0.66172,0.63026
2,adam_amsgrad,5,,0.0001,16,1e-5,0.66164,0.63027
3,adamw,5,,0.0001,16,1e-5,0.66159,0.62996
4,adamax,5,,0.0001,16,1e-5,0.64647,0.62153
5,nadam,5,,0.0001,16,1e-5,0.66218,0.63056
6,sgd,5,,0.0001,16,1e-5,0.55241,0.56786
7,rmsprop,5,,0.0001,16,1e-5,0.54495,0.56434
8,adadelta,5,,0.0001,16,1e-5,0.56492,0.5742
9,adafactor,5,,0.0001,16,1e-5,0.58743,0.58552
10,nadam,10,,0.0001,16,1e-5,0.66151,0.63036
11,nadam,20,,0.0001,16,1e-5,0.66167,0.63023
12,nadam,5,,0.001,16,1e-5,0.66255,0.63061
13,nadam,5,,0.01,16,1e-5,0.67102,0.63600
14,nadam,5,,0.1,16,1e-5,0.55717,0.57051
15,nadam,10,,0.01,16,1e-5,0.67087,0.63054
16,nadam,10,6,0.01,16,1e-5,0.67101,0.63615
17,nadam,10,6,0.01,32,1e-4,0.67089,0.63522
"""


def table_of(name, copied):
    """Return the table in $HPOLAB_DATA/seeds, or the copy as a list of dicts."""
    path = Path(os.environ.get("HPOLAB_DATA", "")) / "seeds" / f"{name}.csv"
    if "HPOLAB_DATA" in os.environ and path.is_file():
        return path
    head, *rows = (line.split(",") for line in copied.split())
    return [dict(zip(head, row, strict=True)) for row in rows]


def import_detection(storage):
    return import_runs(
        table_of("detection_sweep", DETECTION),
        study_name="detection",
        value="h_mean",
        direction="maximize",
        baseline="baseline",
        metrics=["epochs_run"],
        storage=storage,
    )


def import_recommender(storage):
    return import_runs(
        table_of("recommender_runs", RECOMMENDER),
        study_name="recommender",
        value="ndcg",
        direction="maximize",
        baseline=1,
        params=["optimizer", "epochs", "learning_rate", "embed_dim", "l2_reg_embedding"],
        metrics=["hit_rate", "stopped_epoch"],
        storage=storage,
    )


def report_detection(study, folder):
    best = study.best_trial
    baseline = next(t for t in study.trials if t.user_attrs[RUN_KEY] == "baseline")
    gain = best.value - baseline.value
    run = best.user_attrs[RUN_KEY]
    print(
        f"\nDetection: best H-mean {best.value:.2f} in run {run}, {gain:+.2f} over the baseline\n"
    )
    # In the groups that the sweep's own analysis made; the rest is grouped by itself.
    print(influence(study, bins={"lr": [0.00048], "weight_decay": [9e-5]}))
    print(f"\n{recommend(study)}")
    return write_report(study, Path(folder) / "detection.html")


def report_recommender(study, folder):
    hit_rate = max(study.trials, key=lambda trial: trial.user_attrs["hit_rate"])
    for name, trial, value in (
        ("NDCG", study.best_trial, study.best_value),
        ("hit rate", hit_rate, hit_rate.user_attrs["hit_rate"]),
    ):
        params = ", ".join(f"{key} {value}" for key, value in trial.params.items())
        print(
            f"\nRecommender: best {name} {value:.5f} in run {trial.user_attrs[RUN_KEY]}: {params}"
        )
    print(f"\n{influence(study, bins={'learning_rate': [0.001, 0.05]})}")
    return write_report(study, Path(folder) / "recommender.html")


def main(storage="memory://", folder="."):
    reports = [
        report_detection(import_detection(storage), folder),
        report_recommender(import_recommender(storage), folder),
    ]
    print("\nwrote", ", ".join(map(str, reports)))


if __name__ == "__main__":
    main()
