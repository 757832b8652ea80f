"""Evaluations: means and intervals, groups, rank variance, comparisons, and what is written down."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval import evaluate, results
from eval.datasets import read
from eval.evaluation import METRICS, best_ranks, compare, weighted
from eval.metrics import per_query, rank_variation
from eval.ranking import rank
from eval.runs import read_run
from eval.statistics import holm, interval, randomisation
from eval.systems import CollectionSystem, ModelSystem, RunSystem
from eval.tasks import Alignment, Dataset
from retriever import Encoder
from retriever.errors import InvalidData, InvalidRequest, OutputError
from tests.eval.tasks import drawn
from tests.eval.tasks import task as made


class Drawn:
    """A system whose vectors are drawn at random from its seed."""

    def __init__(self, name: str, seed: int, depth: int | None = None) -> None:
        self.name, self._seed, self._depth = name, seed, depth

    def runs(self, datasets, depth, progress) -> Iterator:
        for place, task in enumerate(task for dataset in datasets for task in dataset.tasks):
            rng = np.random.default_rng([self._seed, place])
            queries, documents = (
                rng.standard_normal((len(items), 4), np.float32) for items in (task.queries, task.corpus)
            )
            run = rank(queries, documents, task, depth(task))
            yield (
                run
                if self._depth is None
                else run.of_scores(task, run.documents[:, : self._depth], run.scores[:, : self._depth], self._depth)
            )

    def facts(self):
        return {"system": "drawn", "fingerprint": f"seed {self._seed}"}


def named(task, name, **others):
    return replace(task, name=name, **others)


ONE = Dataset("one", (drawn(1, queries=30),), files={"corpus.jsonl": "00"})
SEVERAL = Dataset(
    "several", (named(drawn(2, queries=5), "a"), named(drawn(3, queries=40), "b"), named(drawn(4, queries=12), "c")),
    groups={"some": ("a", "b")},
)  # fmt: skip


def the(records, **members):
    [found] = [one for one in records if all(getattr(one, name) == value for name, value in members.items())]
    return found


# -- means


def test_every_metric_has_its_mean_over_all_queries_and_an_interval():
    evaluation = evaluate([ONE], [Drawn("x", 1)])
    [answer] = evaluation.answers
    assert tuple(answer.scores) == METRICS["search"]
    for metric, values in per_query(ONE.tasks[0], answer.run, METRICS["search"]).items():
        score = answer.scores[metric]
        assert (score.mean, score.n) == (pytest.approx(values.mean()), 30)
        assert (score.low, score.high) == interval(values, seed=0)
    assert evaluation.means == []  # there is but one task


def test_metrics_that_were_asked_for_take_the_place_of_the_kinds_own():
    [answer] = evaluate([ONE], [Drawn("x", 1)], metrics=["success@3", "judged@10"]).answers
    assert list(answer.scores) == ["success@3", "judged@10"]


def test_a_run_is_as_deep_as_was_asked_and_as_the_metrics_look():
    def depth(**asked):
        [answer] = evaluate([ONE], [Drawn("x", 1)], **asked).answers
        return answer.run.documents.shape[1]

    assert depth(metrics=["recall@20"], k=5) == 20
    assert depth(metrics=["recall@5"], k=30) == 30
    assert depth() == 40  # the corpus


def test_a_macro_mean_is_of_the_tasks_means_and_a_micro_mean_of_all_queries():
    evaluation = evaluate([ONE, SEVERAL], [Drawn("x", 1)])
    means = {(one.dataset, one.task): one.scores["map"].mean for one in evaluation.answers}
    some = the(evaluation.means, group="some")
    assert some.macro["map"].mean == pytest.approx((means["several", "a"] + means["several", "b"]) / 2)
    assert some.micro["map"].mean == pytest.approx((5 * means["several", "a"] + 40 * means["several", "b"]) / 45)
    assert (some.tasks, some.macro["map"].n) == (2, 45)
    whole = the(evaluation.means, dataset="several", group="all")
    assert whole.macro["map"].mean == pytest.approx(np.mean([means["several", name] for name in "abc"]))
    over = the(evaluation.means, dataset=None)
    assert over.macro["map"].mean == pytest.approx((means["one", "test"] + whole.macro["map"].mean) / 2)


def test_the_interval_of_a_macro_mean_is_that_of_drawing_from_each_task_by_itself():
    rng = np.random.default_rng(0)
    parts = [(rng.random(n) ** power, weight) for n, power, weight in ((400, 1, 0.5), (40, 3, 0.3), (2000, 9, 0.2))]
    low, high = interval(weighted(parts))
    resampled = np.zeros(5_000)
    for values, weight in parts:  # the slow, obvious way
        resampled += weight * values[rng.integers(len(values), size=(5_000, len(values)))].mean(axis=1)
    expected = np.quantile(resampled, [0.025, 0.975])
    assert weighted(parts).mean() == pytest.approx(sum(weight * values.mean() for values, weight in parts))
    assert [low, high] == pytest.approx(expected, abs=0.05 * (high - low))


# -- rank variance

RIGHT = {(place, place): 1 for place in range(12)} | {(3, 4): 1, (5, 6): 0}
ALIGNED = Dataset(
    "aligned", tuple(made(12, 12, RIGHT, kind="caption") for _ in range(3)), alignments=(),
)  # fmt: skip
ALIGNED = replace(
    ALIGNED,
    tasks=tuple(named(task, f"{tag}-en") for task, tag in zip(ALIGNED.tasks, ("de", "fr", "cs"), strict=True)),
    alignments=(Alignment("to-en", {"de": "de-en", "fr": "fr-en", "cs": "cs-en"}),),
)


def test_rank_variance_is_over_the_ranks_of_the_best_right_answers():
    evaluation = evaluate([ALIGNED], [Drawn("x", 1)])
    [found] = evaluation.variations
    for column, answer in enumerate(evaluation.answers):
        for query in range(12):
            ranked = answer.run.ranks[
                (ALIGNED.tasks[0].judgements.query == query) & (ALIGNED.tasks[0].judgements.grade > 0)
            ]
            assert found.ranks[query, column] == ranked.min()
    assert found.languages == ("de", "fr", "cs")
    for name, values in rank_variation(found.ranks).items():
        assert found.scores[name].mean == pytest.approx(values.mean())


def test_where_right_answers_are_not_ranked_there_is_a_note_instead_of_a_rank_variance():
    evaluation = evaluate([ALIGNED], [Drawn("deep", 1), Drawn("shallow", 1, depth=3)])
    assert [one.system for one in evaluation.variations] == ["deep"]
    assert evaluation.notes == [
        "shallow has no Mean Rank Variance in aligned to-en: it doesn't rank every right answer"
    ]


def test_a_query_without_right_answer_has_no_rank():
    task = made(2, 3, {(0, 1): 1, (1, 2): 0})
    run = rank(np.eye(2, 3, dtype=np.float32), np.eye(3, dtype=np.float32), task, 3)
    assert best_ranks(task, run).tolist() == [1.5, np.inf]


# -- comparisons


def test_every_metric_of_every_task_and_group_is_compared_with_the_baseline():
    evaluation = evaluate([SEVERAL], [Drawn("x", 1), Drawn("base", 2), Drawn("y", 3)], baseline="base")
    values = {(one.system, one.task): one.values["map"] for one in evaluation.answers}
    compared = [one for one in evaluation.comparisons if one.metric == "map"]
    assert [(one.system, one.task) for one in compared] == [
        (system, task) for system in "xy" for task in ("a", "b", "c", "some", "all")
    ]
    one = the(compared, system="y", task="b")
    difference = values["y", "b"] - values["base", "b"]
    assert one.difference == pytest.approx(difference.mean())
    assert (one.low, one.high) == pytest.approx(interval(difference))
    assert one.p == randomisation(values["y", "b"], values["base", "b"])
    assert [each.adjusted for each in compared] == holm([each.p for each in compared])


def test_of_a_group_the_macro_means_are_compared():
    evaluation = evaluate([SEVERAL], [Drawn("x", 1), Drawn("base", 2)], baseline="base")
    ours, theirs = (the(evaluation.means, system=name, group="all").macro["map"].mean for name in ("x", "base"))
    assert the(evaluation.comparisons, task="all", metric="map").difference == pytest.approx(ours - theirs)


def test_a_system_beside_itself_does_not_differ():
    evaluation = evaluate([SEVERAL], [Drawn("x", 1), Drawn("again", 1)], baseline="x")
    assert {(one.difference, one.p, one.adjusted) for one in evaluation.comparisons} == {(0.0, 1.0, 1.0)}


# -- what is refused


@pytest.mark.parametrize(
    ("datasets", "systems", "others", "says"),
    [
        ([], [Drawn("x", 1)], {}, "no dataset"),
        ([ONE], [], {}, "no system"),
        ([ONE, ONE], [Drawn("x", 1)], {}, "two datasets are called one"),
        ([ONE], [Drawn("x", 1), Drawn("x", 2)], {}, "two systems are called x"),
        ([ONE], [Drawn("x", 1)], {"baseline": "y"}, "no system y"),
        ([ONE], [Drawn("x", 1)], {"metrics": ["ndgc@10"]}, "no metric 'ndgc@10'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_is_done(datasets, systems, others, says):
    with pytest.raises(InvalidRequest, match=says):
        evaluate(datasets, systems, **others)


# -- files


def test_the_run_of_one_task_lies_beside_the_metrics_and_answers_as_the_system_did(tmp_path):
    [answer] = evaluate([ONE], [Drawn("x", 1)], out=tmp_path / "out").answers
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["metrics.json", "values.npz", "x.trec"]
    read = read_run(tmp_path / "out" / "x.trec", ONE.tasks[0])
    np.testing.assert_array_equal(read.documents, answer.run.documents)
    [again] = evaluate([ONE], [RunSystem(tmp_path / "out" / "x.trec")]).answers
    assert again.scores == answer.scores


def test_the_runs_of_several_tasks_lie_in_a_folder_that_is_a_system_again(tmp_path):
    evaluation = evaluate([ONE, SEVERAL], [Drawn("x", 1)], out=tmp_path)
    assert (tmp_path / "x" / "several" / "b.trec").is_file()
    again = evaluate([ONE, SEVERAL], [RunSystem(tmp_path / "x")])
    assert [one.scores for one in again.answers] == [one.scores for one in evaluation.answers]


def test_a_long_run_is_compressed(tmp_path, monkeypatch):
    monkeypatch.setattr("eval.evaluation.PLAIN", 10)
    evaluate([ONE], [Drawn("x", 1)], out=tmp_path)
    assert read_run(tmp_path / "x.trec.gz", ONE.tasks[0]).documents.shape == (30, 40)


def test_metrics_json_holds_what_repeats_the_evaluation(tmp_path):
    evaluation = evaluate([ONE], [Drawn("x", 1)], out=tmp_path, asked={"kind": "beir"})
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["asked"] == {"kind": "beir"}
    assert content["versions"].keys() >= {"polyseek", "python", "numpy"}
    assert content["datasets"][0]["files"] == {"corpus.jsonl": "00"}
    assert content["systems"] == {"x": {"system": "drawn", "fingerprint": "seed 1"}}
    [row] = content["results"]
    assert row["scores"]["map"]["mean"] == evaluation.answers[0].scores["map"].mean  # every digit
    assert row["seconds"] >= 0
    assert (content["seed"], content["resamples"]) == (0, 10_000)
    assert results.read(tmp_path) == content


def test_an_output_that_cannot_be_written_is_an_error_of_its_own(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(OutputError):
        evaluate([ONE], [Drawn("x", 1)], out=tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "says"), [("{", "wrote no such file"), ("[]", "wrote no such file"), ('{"format": 99}', "format 99")]
)
def test_a_file_that_is_no_evaluation_is_refused(tmp_path, content, says):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(InvalidData, match=says):
        results.read(tmp_path)


# -- two evaluations


def test_the_same_evaluation_twice_has_no_differences():
    one, other = (results.to_json(evaluate([ALIGNED, SEVERAL], [Drawn("x", 1)])) for _ in range(2))
    assert results.differences(one, other) == []


def test_another_encoder_another_file_and_another_figure_are_named():
    before = results.to_json(evaluate([ONE], [Drawn("x", 1)], metrics=["map"]))
    after = results.to_json(evaluate([replace(ONE, files={"corpus.jsonl": "01"})], [Drawn("x", 2)], metrics=["map"]))
    assert results.differences(before, after) == [
        "corpus.jsonl of one is not the file that it was",
        "the encoder of x has fingerprint seed 2, it had seed 1",
        f"x one test map is {after['results'][0]['scores']['map']['mean']:.6f}, "
        f"it was {before['results'][0]['scores']['map']['mean']:.6f}",
    ]


def test_a_system_that_is_gone_differs():
    before = results.to_json(evaluate([ONE], [Drawn("x", 1), Drawn("y", 1)], metrics=["map"]))
    after = results.to_json(evaluate([ONE], [Drawn("x", 1)], metrics=["map"]))
    assert any(line.startswith("y one test map is nan") for line in results.differences(before, after))


def test_evaluations_are_compared_query_by_query(tmp_path):
    for folder, seed in (("before", 1), ("after", 2)):
        evaluate([ONE], [Drawn("x", seed)], out=tmp_path / folder)
    together = evaluate([ONE], [Drawn("x", 1), Drawn("x (after)", 2)], baseline="x")
    assert compare([tmp_path / "before", tmp_path / "after" / "metrics.json"]) == together.comparisons


def test_evaluations_of_other_files_or_tasks_are_not_compared(tmp_path):
    evaluate([ONE], [Drawn("x", 1)], out=tmp_path / "one")
    evaluate([replace(ONE, files={"corpus.jsonl": "01"})], [Drawn("x", 1)], out=tmp_path / "changed")
    evaluate([SEVERAL], [Drawn("x", 1)], out=tmp_path / "several")
    with pytest.raises(InvalidData, match=r"corpus\.jsonl of one"):
        compare([tmp_path / "one", tmp_path / "changed"])
    with pytest.raises(InvalidData, match="no task in common"):
        compare([tmp_path / "one", tmp_path / "several"])


def test_a_killed_evaluation_goes_on_from_its_vectors(cache, model, monkeypatch):
    def stop(what, done, of):
        if "document" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate([ONE], [ModelSystem(model)], progress=stop)
    monkeypatch.delattr(Encoder, "load")  # nothing is left to encode
    assert len(evaluate([ONE], [ModelSystem(model)]).answers) == 1


@pytest.mark.data
@pytest.mark.skipif("POLYSEEK_DATA" not in os.environ, reason="POLYSEEK_DATA is unset")
def test_bm25_on_scifact_is_as_good_as_it_was(cache):
    datasets = read("beir", [Path(os.environ["POLYSEEK_DATA"], "scifact")])
    [answer] = evaluate(datasets, [CollectionSystem.bm25()]).answers
    assert 0.69 < answer.scores["ndcg@10"].mean < 0.70
