"""Ingest, validate, train and deploy a classifier of breast tumours, on scikit-learn's own copy of the Wisconsin table.

Run it with ``python examples/breast_cancer.py``; it writes the table to ``data/`` first.
"""

import argparse
from pathlib import Path

import flowcore
from flowcore import dsl
from flowcore.dsl import Dataset, Input, Metrics, Model, Output
from flowcore.executors import LocalExecutor


@dsl.component(packages_to_install=["pandas"])
def ingest_data(source_path: str, output_data: Output[Dataset]) -> None:
    """Copy the source table into the run."""
    import pandas as pd

    pd.read_csv(source_path).to_csv(output_data.path, index=False)


@dsl.component(packages_to_install=["pandas"])
def validate_data(input_data: Input[Dataset], validation_report: Output[Dataset]) -> bool:
    """Whether the table is long enough and nearly complete."""
    import pandas as pd

    df = pd.read_csv(input_data.path)
    missing = df.isnull().sum().sum() / df.size
    is_valid = (len(df) > 100) & (missing < 0.1)
    pd.DataFrame([{"valid": is_valid, "rows": len(df), "missing": missing}]).to_csv(validation_report.path, index=False)
    return is_valid


@dsl.component(packages_to_install=["pandas", "scikit-learn"])
def train_and_evaluate(
    train_data: Input[Dataset], model: Output[Model], metrics: Output[Metrics], n_estimators: int = 100
) -> float:
    """Train a random forest and give its accuracy on a held-out fifth."""
    import joblib
    import pandas as pd
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.model_selection import train_test_split

    df = pd.read_csv(train_data.path)
    features, target = df.drop(columns="target"), df["target"]
    x_train, x_test, y_train, y_test = train_test_split(features, target, test_size=0.2, random_state=42, stratify=target)

    classifier = RandomForestClassifier(n_estimators=n_estimators, random_state=42)
    classifier.fit(x_train, y_train)
    predicted = classifier.predict(x_test)
    accuracy = float(accuracy_score(y_test, predicted))

    joblib.dump(classifier, model.path)
    model.metadata["framework"] = "scikit-learn"
    metrics.log_metric("accuracy", accuracy)
    metrics.log_metric("f1_score", f1_score(y_test, predicted, average="macro"))
    return accuracy


@dsl.component
def deploy_model(model: Input[Model], accuracy: float, min_accuracy: float = 0.8) -> str:
    """Deploy the model where it is good enough."""
    if accuracy < min_accuracy:
        return f"Model not deployed: accuracy {accuracy:.3f} is below {min_accuracy}"
    return f"Model deployed with accuracy {accuracy:.3f}"


@dsl.pipeline(name="breast-cancer", description="Data validation, training and deployment")
def breast_cancer(data_source: str = "data/breast_cancer.csv", n_estimators: int = 100, min_accuracy: float = 0.8) -> None:
    ingest_task = ingest_data(source_path=data_source)
    validate_task = validate_data(input_data=ingest_task.outputs["output_data"])
    with dsl.Condition(validate_task.output == True, name="data-valid"):  # noqa: E712  a value known when the pipeline runs
        train_task = train_and_evaluate(train_data=ingest_task.outputs["output_data"], n_estimators=n_estimators)
        deploy_model(model=train_task.outputs["model"], accuracy=train_task.output, min_accuracy=min_accuracy)


def write_table(path: Path) -> None:
    """Write scikit-learn's table as CSV; the column ``target`` is 0 for malignant, 1 for benign."""
    from sklearn.datasets import load_breast_cancer

    path.parent.mkdir(parents=True, exist_ok=True)
    load_breast_cancer(as_frame=True).frame.to_csv(path, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the breast cancer pipeline.")
    parser.add_argument("--mode", choices=["inline", "threads", "processes"], default="threads")
    options = parser.parse_args()

    table = Path("data/breast_cancer.csv")
    write_table(table)
    executor = LocalExecutor(mode=options.mode)
    run = flowcore.run(breast_cancer, {"data_source": str(table.absolute())}, executor=executor, progress=True)
    print()
    print(run.tasks["deploy-model"].output)


if __name__ == "__main__":
    main()
