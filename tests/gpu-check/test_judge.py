"""The judgements of the GPU check: `python3 -m unittest discover -s tests/gpu-check`."""

import math
import unittest

from gpu_check import judge
from gpu_check.judge import FAIL, PASS, SKIP, Run

GOOD = "check a.b: expected success, got success OK\ncheck c: expected anything, got 7 OK\nnote t: 3 us\nend g: 2 checks\n"


def run(side="native", status=0, stdout="", stderr="", **more):
    return Run(side, status, 1.0, stdout, stderr, **more)


def saved(side, *values):
    return run(side, saved={"values": {"loss": list(values)}, "times": {"step": 0.5}})


class Programs(unittest.TestCase):
    def test_a_program_passes_only_with_its_line_on_every_side(self):
        self.assertEqual(judge.program([run(stdout="PASS x"), run("unix", stdout="PASS x")]).word, PASS)
        self.assertEqual(judge.program([run(stdout="PASS x"), run("unix")]).word, FAIL)

    def test_each_bad_end_is_told(self):
        for status, words in [(None, "not over"), (-11, "signal 11"), (3, "status 3")]:
            verdict = judge.program([run(stdout="PASS x"), run("tcp", status, "FAIL x: line 3")])
            self.assertEqual(verdict.word, FAIL)
            self.assertIn(words, verdict.details[0])
            self.assertIn("line 3", verdict.details[0])

    def test_the_part_that_failed_is_told(self):
        verdict = judge.basic([run("tcp", 1, "section fft\nsection sort\n", "x\nRuntimeError: no sort")])
        self.assertIn('in "sort": RuntimeError: no sort', verdict.details[0])

    def test_what_is_not_served_is_named(self):
        log = "gpurun: cuX_v2 is not supported: not served yet\ngpurun: cuX_v2 is not supported: again\ngpurun: other"
        refused = judge.refusals(log)
        self.assertEqual(refused, ["cuX_v2"])
        verdict = judge.basic([run(), run("unix", 1, refused=refused)])
        self.assertIn("cuX_v2", verdict.details[1])

    def test_not_installed_is_skipped_and_never_passed(self):
        verdict = judge.results([run(status=77, stdout="no module named torch")])
        self.assertEqual((verdict.word, verdict.details), (SKIP, ["no module named torch"]))
        # Installed natively but not found remotely is a failure.
        self.assertEqual(judge.results([saved("native", 1), run("unix", 77)]).word, FAIL)

    def test_descriptions_may_differ_only_where_they_are_edited(self):
        native = "PASS d\nname x\n~free 1\ncanMapHostMemory 1"
        self.assertEqual(judge.description([run(stdout=native), run("unix", stdout=native.replace("1", "0"))]).word, PASS)
        self.assertEqual(judge.description([run(stdout=native), run("unix", stdout=native.replace("x", "y"))]).word, FAIL)
        self.assertEqual(judge.description([run(stdout=native), run("unix", stdout=native + "\nmore")]).word, FAIL)

    def test_printing_is_compared_whole(self):
        self.assertEqual(judge.printing("a\n")([run(stdout="a\n"), run("unix", stdout="a\n")]).word, PASS)
        self.assertEqual(judge.printing("a\n")([run(stdout="a\n"), run("unix", stdout="")]).word, FAIL)


class Assumptions(unittest.TestCase):
    def judge(self, native, remote, **options):
        return judge.assumptions(**options)([run(stdout=native), run("unix", stdout=remote)])

    def test_the_same_answers_pass_without_a_word(self):
        verdict = self.judge(GOOD, GOOD)
        self.assertEqual((verdict.word, verdict.details, verdict.differences), (PASS, [], []))

    def test_a_wrong_assumption_fails(self):
        verdict = self.judge(GOOD.replace("got success OK", "got error DIFFERS"), GOOD)
        self.assertEqual(verdict.word, FAIL)
        self.assertIn("a.b", verdict.details[0])

    def test_another_answer_remotely_is_listed(self):
        verdict = self.judge(GOOD, GOOD.replace("got 7", "got 8"))
        self.assertEqual((verdict.word, verdict.differences), (PASS, ["c: 8, natively 7"]))

    def test_what_is_not_served_is_listed(self):
        verdict = self.judge(GOOD, GOOD.replace("got 7 OK", "got CUDA_ERROR_NOT_SUPPORTED SKIPPED"))
        self.assertEqual((verdict.word, verdict.differences), (PASS, ["c: not served (CUDA_ERROR_NOT_SUPPORTED)"]))

    def test_a_crash_fails_except_where_it_is_an_answer(self):
        cut = GOOD.splitlines()[0]
        self.assertEqual(self.judge(cut, GOOD).word, FAIL)
        self.assertEqual(self.judge(GOOD, cut).word, FAIL)
        self.assertEqual(self.judge(cut, GOOD, may_crash=True).word, PASS)
        self.assertEqual(self.judge(cut, cut, may_crash=True).word, PASS)
        self.assertEqual(self.judge(GOOD, cut, may_crash=True).word, FAIL)


class Results(unittest.TestCase):
    def test_equal_results_pass(self):
        runs = [saved("native", 1.0, math.nan), saved("unix", 1.0, math.nan), saved("native", 1.0, math.nan)]
        self.assertEqual(judge.results(runs).word, PASS)
        self.assertTrue(judge.is_bit_equal(runs))

    def test_the_noise_of_native_runs_is_allowed_and_no_more(self):
        native = [saved("native", 1.0), saved("native", 1.01)]
        self.assertEqual(judge.results(native + [saved("unix", 1.03)]).word, PASS)
        self.assertEqual(judge.results(native + [saved("unix", 1.05)]).word, FAIL)
        self.assertEqual(judge.results([saved("native", 1.0), saved("unix", 1.01)]).word, FAIL)

    def test_other_shapes_names_and_nans_fail(self):
        for other in [saved("unix", 1.0, 2.0), saved("unix", math.nan), run("unix", saved={"values": {"x": [1.0]}}), run("unix")]:
            self.assertEqual(judge.results([saved("native", 1.0), other]).word, FAIL)

    def test_times_are_of_steps_where_there_are_some(self):
        self.assertEqual((judge.time_of(saved("native", 1)), judge.time_of(run())), (0.5, 1.0))


if __name__ == "__main__":
    unittest.main()
