"""Search over the parameters of a classifier of wines: a training per parameter set, two at once, then the best of them.

Run it with ``python examples/search.py``. The table is scikit-learn's own copy.
"""

import argparse
from typing import Any

import flowcore
from flowcore import dsl
from flowcore.dsl import Dataset, Input, Metrics, Model, Output
from flowcore.executors import LocalExecutor

PARAMETER_SETS: list[dict[str, Any]] = [
    {"n_estimators": n_estimators, "max_depth": max_depth} for n_estimators in (10, 30, 90) for max_depth in (1, 4)
]


@dsl.component(packages_to_install=["pandas", "scikit-learn"])
def load_table(table: Output[Dataset]) -> None:
    """The wine table of scikit-learn; its column ``target`` is the cultivar."""
    from sklearn.datasets import load_wine

    table.write(load_wine(as_frame=True).frame)


@dsl.component(packages_to_install=["pandas", "scikit-learn"])
def train(table: Input[Dataset], parameters: dict[str, Any], model: Output[Model], metrics: Output[Metrics]) -> float:
    """Train a random forest and give its accuracy, cross-validated five times."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_score

    df = table.read()
    features, target = df.drop(columns="target"), df["target"]
    classifier = RandomForestClassifier(random_state=0, **parameters)
    score = float(cross_val_score(classifier, features, target, cv=5).mean())
    model.save(classifier.fit(features, target))
    metrics.log_metric("accuracy", score)
    return score


@dsl.component
def tell(n_estimators: int, accuracy: float) -> None:
    """Log how a forest of this size did."""
    print(f"{n_estimators} trees: {accuracy:.3f}")


@dsl.component
def select_best(
    scores: list[float], parameter_sets: list[dict[str, Any]], models: Input[list[Model]], best: Output[Model]
) -> dict[str, Any]:
    """The parameter set with the highest score; of equals the first."""
    place = max(range(len(scores)), key=scores.__getitem__)
    best.save(models[place].load())
    return {"accuracy": scores[place], **parameter_sets[place]}


@dsl.pipeline(name="search", description="One training per parameter set, then the best of them")
def search(parameter_sets: list[dict[str, Any]] = PARAMETER_SETS) -> dict[str, Any]:
    table = load_table().outputs["table"]
    with dsl.ParallelFor(parameter_sets, name="sweep", parallelism=2) as item:
        trained = train(table=table, parameters=item)
        tell(n_estimators=item.n_estimators, accuracy=trained.output)
    winner: dict[str, Any] = select_best(
        scores=dsl.Collected(trained.output), parameter_sets=parameter_sets, models=dsl.Collected(trained.outputs["model"])
    ).output
    return winner


def main() -> None:
    parser = argparse.ArgumentParser(description="Search for the best parameters.")
    parser.add_argument("--mode", choices=["inline", "threads", "processes"], default="threads")
    options = parser.parse_args()

    run = flowcore.run(search, executor=LocalExecutor(mode=options.mode), progress=True)
    winner = run.output
    print()
    print(f"Best: {winner['n_estimators']} trees of depth {winner['max_depth']}, accuracy {winner['accuracy']:.3f}")


if __name__ == "__main__":
    main()
