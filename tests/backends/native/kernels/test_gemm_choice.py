"""The choice between BLAS and generated code: kinds of products, and the default cuts."""

import pytest

pytest.importorskip("llvmlite")

from minigrad import blas
from minigrad.backends.native.kernels import gemm
from minigrad.backends.native.kernels.gemm_choice import AVX512, AVX512_ALONE, KINDS, NEVER, OTHERS, Cuts, Kind, uniform


def test_each_kind_has_cuts():
    for choice in (AVX512, OTHERS, uniform(Cuts(0, NEVER))):
        assert list(choice.cuts) == list(KINDS)
        assert all(0 <= cuts.small < cuts.large <= NEVER for cuts in choice.cuts.values())


def test_kinds_name_their_products():
    assert str(Kind(4, False, False, True)) == "float32, broad x @ y.T"
    assert str(Kind(8, True, True, False)) == "float64, narrow x.T @ y"
    assert len(set(map(str, KINDS))) == len(KINDS) == 16


def test_wide_registers_generate_large_products_and_broad_ones_with_transposed_operands():
    for kind, cuts in AVX512.cuts.items():
        assert cuts.large == NEVER
        assert (cuts.small == 0) == (kind.right_transposed and not kind.narrow)


@pytest.mark.parametrize(("registers", "limits", "kernels", "choice"), [
    (True, True, "SkylakeX", AVX512), (True, True, "Haswell", AVX512_ALONE), (True, False, "", OTHERS),
    (False, True, "Haswell", OTHERS)])
def test_the_usual_choice_follows_the_registers_of_generated_code_and_of_blas(monkeypatch, registers, limits, kernels,
                                                                              choice):
    monkeypatch.setattr(gemm, "wide_registers", lambda machine: registers)
    monkeypatch.setattr(blas, "can_limit", lambda: limits)
    monkeypatch.setattr(blas, "_openblas_text", lambda name: kernels)
    blas.has_avx512.cache_clear()
    try:
        assert gemm.resources(2).choice is choice
    finally:
        blas.has_avx512.cache_clear()


def test_generated_code_computes_all_matrices_where_blas_leaves_half_of_a_register_empty():
    assert set(AVX512_ALONE.cuts.values()) == {Cuts(0, NEVER)}
