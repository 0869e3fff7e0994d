"""The benchmarks agree with each other, and the page of results says what the measured files say."""

import cProfile
import importlib
import json
import mmap
import pstats
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from benchmarks import compile_curves, counters, gpu, graphs, harness, page, pause, scale, sharing
from benchmarks.book import optimizer_steps, record, when_it_pays
from benchmarks.peers import cold, contestants, epoch, limits, mlp, norms, table

GROUPS = ("elementwise", "mlp", "narrow", "attention", "rnn", "logistic", "mixture", "gaussian_process")
NEEDS = {"JAX jit": "jax", "torch eager": "torch", "torch.func": "torch", "autograd": "autograd"}


def test_the_page_is_up_to_date():
    assert page.PAGE.read_text() == page.page(), "run python -m benchmarks.page"
    readme = page.README.read_text()
    assert readme == page.readme(readme), "run python -m benchmarks.page"


def small(group):
    """Return a group's program, and arguments of few examples."""
    module = importlib.import_module(f"benchmarks.peers.{group}")
    if group == "logistic":
        pytest.importorskip("sklearn")
        params, *examples = module.data()
        return module.PROGRAM, (params, *(x[:7] for x in examples))
    return module.PROGRAM, module.data((12, 8, 5), 7) if group == "mlp" else module.data(7)


@pytest.mark.parametrize("group", GROUPS)
def test_contestants_agree_with_float64_minigrad(group):
    program, args = small(group)
    want = table.exact(program, args)
    names = [f"minigrad {b}" for b in contestants.minigrad_backends()] + list(NEEDS)
    made, _ = harness.gather({name: contestants.maker(program, name) for name in names})
    for name, contestant in made.items():
        own = contestant.put(args)
        got = table.numbers(contestant.build(own)(*own))
        assert table.disagreement(got, want) < table.TOLERANCE, name


def test_a_contestant_that_computes_something_else_is_an_error():
    program, args = small("narrow")
    wrong = [1.01 * v for v in table.exact(program, args)]
    with pytest.raises(AssertionError, match="minigrad numpy is wrong by"):
        table.measure("wrong", {"minigrad numpy": contestants.maker(program, "minigrad numpy")}, args, wrong,
                      limits.Work(1e6), quick=True)


def test_a_peer_that_cannot_run_is_absent_with_the_reason():
    program, args = small("mlp")

    def step(*args):
        raise RuntimeError("no compiler")

    case = table.measure("absent", {"minigrad numpy": contestants.maker(program, "minigrad numpy"),
                                    "a peer": lambda: contestants.Contestant(lambda args: step)},
                         args, table.exact(program, args), limits.Work(1e6), quick=True, size=7)
    assert case.absent == {"a peer": "RuntimeError: no compiler"}
    assert set(case.rows) == {"minigrad numpy"}
    assert case.more["limit"]["seconds"] > 0


def test_disagreement_is_relative_to_each_array_and_sees_shapes():
    one, two = [np.array([1.0, 100.0])], [np.array([2.0, 100.0])]
    assert table.disagreement(one, two) == pytest.approx(0.01)
    assert table.disagreement(one, [np.ones((2, 1))]) == np.inf


def test_the_digits_perceptron_needs_as_many_products_as_counted():
    params, x, _ = args = mlp.data((12, 8, 5), 7)
    work = mlp.work((12, 8, 5), args)
    forward = 2 * 7 * (12 * 8 + 8 * 5)
    assert work.flops == forward + (forward - 2 * 7 * 12 * 8) + forward  # values, errors, gradients of weights
    assert work.nbytes == 2 * sum(v.nbytes for layer in params for v in layer) + x.nbytes + 7 * 8


def test_gradient_norms_equal_per_example_loop():
    args = mlp.data((12, 8, 5), 7)
    got = norms.with_minigrad("numpy").build(args)(*args)
    assert table.disagreement([got.astype(float)], [norms.by_definition(*args)]) < table.TOLERANCE


def test_an_epoch_is_cut_into_batches_in_order():
    params, x, label = mlp.data((12, 8, 5), 7)
    parts = epoch.batches((params, x, label), (3, 3, 1))
    assert all(part[0] is params for part in parts)
    assert np.array_equal(np.concatenate([part[1] for part in parts]), x)
    assert np.array_equal(np.concatenate([part[2] for part in parts]), label)


def test_a_cold_process_imports_one_contestant_and_finds_the_gradient(tmp_path):
    _, program, data = cold.PROGRAMS["mlp"]
    took, norm = cold.start("mlp", "minigrad numpy", str(tmp_path))
    assert took > 0
    want = sum(float((v**2).sum()) for v in table.exact(program, data())) ** 0.5
    assert norm == pytest.approx(want, rel=table.TOLERANCE)


def test_the_graph_network_is_one_in_all_libraries():
    examples, start = graphs.drawn(9), graphs.parameters()
    batch = mg.batch(examples)
    assert 4 * 9 <= len(batch.x) < 30 * 9
    value, gradient = mg.value_and_grad(mg.mean_loss(graphs.loss, (None, 0)))(start, batch)
    pytest.importorskip("jax")
    flat = batch.x, batch.src, batch.dst, batch.segment_ids["node"], batch.y
    their_value, theirs = gpu.jax_gcn(start, *flat)
    np.testing.assert_allclose(value, their_value, rtol=1e-5)
    for k in gradient:
        np.testing.assert_allclose(gradient[k], theirs[k], rtol=1e-3, atol=1e-4)
    pytest.importorskip("torch_geometric")
    for once in (False, True):
        peer = graphs.PyG(examples, start, once)
        peer.gradient(peer.collate(range(9)))
        assert graphs.difference(gradient, peer) < 1e-4


def test_gpu_goals_set_bounds_and_judge_cases():
    def case(title, **times):
        return harness.Case.of(f"{title}: queued", "ms", "minigrad", {k.replace("_", " "): v for k, v in times.items()})

    cases = [case("training step, 32 examples", minigrad=[1e-4] * 3, JAX_jit=[1.5e-4] * 3),
             case("training step, 8,192 examples", minigrad=[1e-3] * 3, JAX_jit=[0.9e-3] * 3),
             case("graph network, 128 graphs, value and gradient", minigrad=[1e-3] * 3)]
    found = gpu.goals(cases, {"elementwise loss, 100,000,000 examples: part of the copy's bandwidth, minigrad": 0.9})
    assert [t.bound for t in found] == [1.3, 1.0, 2, 0.85]
    assert [t.met for t in found] == [True, False, None, True]


def test_optimizer_step_equals_numpy():
    pytest.importorskip("sklearn")
    problem = optimizer_steps.convex()
    x, y, w, v, q = problem.x[:5], problem.y[:5], np.ones(problem.x.shape[1]), np.full(problem.x.shape[1], 0.1), 0.5
    step, average = optimizer_steps.update(problem.loss), {"w": np.full_like(w, q)}
    p1, v1, q1 = step({"w": w}, {"w": v}, average, x, y, 0.2, 0.9, 0.3)
    slope = -(x * (y / (1 + np.exp(y * (x @ w))))[:, None]).mean(axis=0) + 0.02 * w
    velocity = 0.9 * v + 0.1 * slope
    np.testing.assert_allclose(v1["w"], velocity, rtol=1e-12)
    np.testing.assert_allclose(p1["w"], w - 0.2 * velocity, rtol=1e-12)
    np.testing.assert_allclose(q1["w"], 0.7 * q + 0.3 * (w - 0.2 * velocity), rtol=1e-12)


def test_batched_training_equals_a_loop_over_seeds_and_rates():
    pytest.importorskip("sklearn")
    problem = optimizer_steps.convex()
    rates = (0.1, 0.5)
    found = optimizer_steps.train(problem, 50, 0.0, rates, seeds=2, epochs=1)["last"]
    step, mean = optimizer_steps.update(problem.loss), mg.mean_loss(problem.loss, in_axes=(None, 0, 0))
    for s in range(2):
        for r, rate in enumerate(rates):
            rng = np.random.default_rng(100 + s)
            p = problem.start(rng)
            v = {"w": np.zeros_like(p["w"])}
            for rows in rng.permutation(500).reshape(-1, 50):
                p, v, _ = step(p, v, p, problem.x[rows], problem.y[rows], rate, 0.0, 0.0)
            np.testing.assert_allclose(found[-1, s, r], mean(p, problem.x, problem.y) - problem.optimum, rtol=1e-9)


def test_summary_takes_the_rate_of_the_lowest_mean():
    losses = np.array([[[3.0, 1.0, np.inf], [1.0, 2.0, 1.0]]])  # one checkpoint, two seeds, three rates
    found = optimizer_steps.summary(losses)
    assert found["best rate"].tolist() == [1]
    assert found["at best rate"].tolist() == [[1.0, 2.0]]
    assert record.rounded(found["mean"]) == [[2.0, 1.5, None]]


def test_hand_written_gradient_equals_minigrads():
    rng = np.random.default_rng(0)
    p, x = when_it_pays.network(rng), rng.random(64, np.float32)
    want = mg.grad(optimizer_steps.cross_entropy)(p, x, 3)
    for name, g in when_it_pays.by_hand(p, x, 3).items():
        np.testing.assert_allclose(g, want[name], rtol=1e-4, atol=1e-6)


def test_tables_have_the_third_call_after_a_rest_beside_those_back_to_back():
    calls = {"many": lambda: None, "few": lambda: time.sleep(0.003)}
    times = harness.race(calls, 2, turn=0.001)
    assert list(times.third) == ["many"], "a turn of one call has no third"
    assert len(times.third["many"]) == 2
    case = harness.Case.of("calls", "ms", "many", times)
    row = case.rows["many"]
    assert row[harness.THIRD] == np.median(np.divide(times.third["many"], times["many"]))
    assert harness.THIRD not in case.rows["few"]
    assert "in the third call after a rest" in str(case)


def test_targets_compare_contestants_within_a_round():
    found = pause.Life({(pause.OURS, pause.BACK_TO_BACK): [1.0, 2.0, 2.0, 1.0, 1.0],  # a machine of two speeds
                        ("torch eager", pause.BACK_TO_BACK): [1.1, 2.2, 2.2, 1.1, 2.2]})
    ours, theirs = found.times
    assert pause.over(found, theirs, ours) == pytest.approx(1.1)  # that of the medians is 2.2
    assert pause.over(found, ours, ("JAX jit", pause.BACK_TO_BACK)) is None
    case = harness.Case("t", "s", "minigrad native", {
        "minigrad native": {"compile": {"of each round": [1.0, 4.0, 1.0]}},
        "JAX jit": {"compile": {"of each round": [2.0, 8.0, 8.0]}}})
    assert table.compiles_sooner(case, "t").value == 0.5  # that of the medians is 1/8


def test_rows_that_stay_in_a_file_keep_the_conditions_under_which_they_were_measured():
    now = harness.conditions()
    before = {**now, "date": "2020-01-01", "machine": {**now["machine"], "cpu": "another"}}
    old = {**before, "earlier": [{**before, "date": "2019-01-01", "rows": ["a", "b"]}]}
    rows_of_two_runs = [{**before, "rows": ["c"]}, {**before, "date": "2019-01-01", "rows": ["b"]}]
    assert harness.earlier(old, ["b", "c"]) == rows_of_two_runs
    assert harness.earlier(now, ["a"]) == []
    assert harness.earlier(old, []) == []


def test_functions_measured_alone_leave_the_others_in_the_file():
    accuracy = pytest.importorskip("benchmarks.accuracy")

    def goal(name, value):
        return harness.Target(f"{accuracy.title(name, np.float32)} (NumPy 0.5)", value, 2.0, at_least=False)

    now = harness.conditions()
    old = json.loads(harness.document("accuracy", harness.Result([], [goal("exp", 1.0), goal("exp2", 1.5)])))
    old["date"] = "2020-01-01"
    result, earlier = accuracy.merged(old, harness.Result([], [goal("sqrt", 0.5), goal("exp", 3.0)]), ("sqrt", "exp"))
    assert result.targets == [goal("exp", 3.0), goal("exp2", 1.5), goal("sqrt", 0.5)]
    assert earlier == [{**now, "date": "2020-01-01", "rows": ["exp2"]}]


def test_a_line_has_the_fixed_cost_and_that_of_a_unit():
    sizes = (10, 100, 1_000, 10_000, 100_000)
    line = scale.Line.of(sizes, [[5e-6 + 2e-9 * n] * 3 for n in sizes])
    assert line.fixed == pytest.approx(5e-6)
    assert line.each == pytest.approx(2e-9)
    assert line.slopes == pytest.approx([np.log10(205 / 25)] * 3)  # of the last decade


def case_of(size, seconds, machine, faults=0.0):
    case = harness.Case.of(f"{size}: work", "ms", "ours", {"ours": [seconds] * 3, scale.MACHINE: [machine] * 3})
    case.more = {"size": size, "bytes": 8 * size, "held by": "L2", "seconds of each round": {"ours": [seconds] * 3},
                 "counts of a call": {"ours": {"page faults": faults}}}
    return case


def test_departures_from_a_line_have_reasons():
    small, best = case_of(10, 1.01e-5, 1e-7), case_of(100_000, 1e-4 + 1e-5, 1e-4)
    for large, reason in ((case_of(10**6, 2.2e-3, 2e-3), "the machine itself takes 2.00 times"),
                          (case_of(10**6, 2.2e-3, 1e-3, faults=5000), "5000 page faults"),
                          (case_of(10**6, 2.2e-3, 1e-3), None)):
        first, last = scale.departures([small, best, large], "ours")
        assert first["size"] == 10
        assert first["reason"].startswith("a fixed cost of")
        assert last["size"] == 10**6
        assert last["reason"] is reason is None or reason in last["reason"]
        assert scale.target({"work": {"ours": {"departures": [first, last]}}}).met == (reason is not None)


@pytest.mark.parametrize("name", ["batch", "features", "nodes", "examples"])
def test_programs_of_curves_agree_on_all_backends(name):
    pytest.importorskip("llvmlite")
    calls, nbytes = scale.curves()[name].calls(20)
    assert nbytes > 0
    value, gradient = calls["minigrad numpy"]()
    for call in calls.values():
        other, slope = call()
        np.testing.assert_allclose(other, value, rtol=1e-5)
        assert table.disagreement(table.numbers(slope), table.numbers(gradient)) < 1e-4


def test_a_function_of_operations_has_as_many():
    graph = mg.trace(scale.operations(50))(np.ones(3))
    assert 50 <= len(graph.nodes) <= 52  # and the sum, and perhaps the argument


def test_a_trace_and_a_gradient_call_as_many_functions_for_each_operation_of_any_graph():
    def calls(f):
        profile = cProfile.Profile()
        profile.runcall(f)
        return pstats.Stats(profile).total_calls

    each = []
    for n in (500, 5_000):
        found, _ = scale.building(n)
        each.append([calls(found[name]) / n for name in ("the trace", "the gradient's graph")])
    np.testing.assert_allclose(*each, rtol=0.05)  # a quadratic step would take ten times as many


def test_counters_count_the_page_faults_of_new_memory():
    counter = counters.Counters()
    if "page faults" in counter.absent:
        pytest.skip(counter.absent["page faults"])

    def touch():
        with mmap.mmap(-1, 1 << 20) as memory:
            memory.write(bytes(1 << 20))

    try:
        counts = counter.of(touch)
        assert counts["page faults"] >= (1 << 20) // mmap.PAGESIZE
        assert counts["nanoseconds on a core"] > 0
    finally:
        counter.close()
    assert counter.read() == {}


RECORD = """
import json
import numpy as np
from benchmarks import cores
from benchmarks.regions import Recorder
import minigrad as mg
recorder = Recorder()
mg.set_num_threads(2)
f = mg.compile(lambda x: np.tanh(x) * 2, backend="native")
x = np.linspace(-3, 3, 300_000)
f(x)
found = [recorder.alone(lambda: f(x)), recorder.together(lambda: f(x))]
assert np.allclose(f(x), 2 * np.tanh(x))
print(json.dumps([[seconds, [[r.threads, r.seconds, r.items.tolist(), r.worker.tolist()] for r in regions]]
                  for seconds, regions in found]))
"""


def test_recorded_regions_have_all_items_of_a_call():
    pytest.importorskip("llvmlite")
    done = subprocess.run([sys.executable, "-c", RECORD], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[1])
    alone, both = json.loads(done.stdout)
    for seconds, regions in (alone, both):
        ((threads, within, items, worker),) = regions
        assert threads == 2
        assert within < seconds
        assert len(items) == len(worker) == -(-300_000 // 8192)
        assert min(items) > 0
    ((_, within, items, worker),) = alone[1]
    assert sum(items) < within
    assert set(worker) == {0}
    assert set(both[1][0][3]) <= {0, 1}


def test_predicted_times_follow_the_order_in_which_cores_take_items():
    pytest.importorskip("llvmlite")
    from benchmarks import cores

    assert cores.makespan([3, 1, 1, 1], 2) == 3
    assert cores.makespan([1, 1, 1, 3], 2) == 4  # 1 and 1, then 1 beside 3
    assert cores.makespan([2, 2], 32) == 2
    regions = [np.array([1.0] * 64), np.array([5.0])]
    assert cores.predicted(2.0, regions, 1) == 71
    assert cores.predicted(2.0, regions, 32, handing=0.5) == 2 + 2 + 5 + 0.5
    runs = [(10.0, [cores.Region(2, 4.0, np.array([1.0, 3.0]), np.zeros(2))]),
            (12.0, [cores.Region(2, 8.0, np.array([2.0, 1.0]), np.zeros(2))])]
    serial, items = cores.least(runs)
    assert serial == 4.0
    assert items[0].tolist() == [1.0, 1.0]


def test_the_page_of_curves_has_each_size_and_reason():
    lines = {"work": {"ours": {"fixed": 1e-5, "each": 1e-9, "unit": "row", "slope": harness.spread([1.0, 1.1]),
                               "departures": [{"size": 10, "ns": 1e3, "over the lowest": 900.0, "reason": None}]}}}
    text = page._curves({"lines": lines, "cases": [{"title": "10: work", "more": {"size": 10},
                                                    "rows": {"ours": {"median": 1e-5}}}]})
    assert "| rows | ours |" in text
    assert "| 10 | 1e+03 |" in text
    assert "- ours: 10 µs and 1 ns for each row; slope 1.05 (1.01 to 1.09)" in text
    assert "- ours, 10: 9e+02 times the lowest: not known" in text


def test_two_threads_add_to_numbers_on_any_lines():
    pytest.importorskip("llvmlite")
    for distance in (8, 4096):
        assert sharing.additions(distance) > 0


def test_a_curve_whose_reference_takes_too_long(monkeypatch):
    def compiled(program, size, contestant):
        if contestant == "minigrad native" and size > 30:
            return "more than 20 s"
        return {"minigrad native": 1.0, "minigrad numpy": 2.0, "JAX jit": 8.0}[contestant], 1000

    monkeypatch.setattr(compile_curves, "compiled", compiled)
    curve = {size: compile_curves.measure(str(size), "network, layers", size, {}, 1) for size in (30, 1000)}
    assert curve[30].ratio("JAX jit") == 8
    assert curve[1000].absent == {"minigrad native": "more than 20 s"}
    assert (curve[1000].reference, curve[1000].ratio("JAX jit")) == ("minigrad numpy", 4)
    assert "more than 20 s" in str(curve[1000])
    for name in compile_curves.LOOPS:
        assert compile_curves.goals(name, curve)[0].met is None
    monkeypatch.setattr(compile_curves, "compiled", lambda *args: "more than 20 s")
    assert not compile_curves.measure("none", "network, layers", 30, {}, 1).rows
