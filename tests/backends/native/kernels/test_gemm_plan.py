"""Plans of matrix products: methods, and the strides that BLAS reads."""

import itertools

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad.backends.native.codegen.strides import View
from minigrad.backends.native.kernels.gemm_choice import AVX512, AVX512_ALONE, OTHERS, Cuts, uniform
from minigrad.backends.native.kernels.gemm_plan import (
    AXES,
    BATCH,
    COL_BLOCKS,
    COLS,
    GENERATED,
    GROUPS,
    LDA,
    LDB,
    MATRIX,
    METHOD,
    ROW_BLOCKS,
    ROWS,
    TRANS_A,
    TRANS_B,
    VECTOR,
    K,
    M,
    N,
    Resources,
    gemm_args,
    shared_by_blas,
)
from minigrad.blas import NO_TRANSPOSE, TRANSPOSE


def contiguous(base, *shape):
    strides = [4 * int(np.prod(shape[k + 1:])) for k in range(len(shape))]
    return View(base, 0, shape, tuple(strides))


def transposed(view):
    return View(view.base, view.offset, view.shape[::-1], view.strides[::-1])


def plan(x, y, out, subscripts="ij,jk->ik", blas=True, choice=OTHERS):
    return gemm_args(subscripts, x, y, out, np.dtype("f4"), Resources(blas, choice=choice))


def test_large_products_use_blas():
    x, y, out = contiguous(0, 1024, 1000), contiguous(1, 1000, 1030), contiguous(2, 1024, 1030)
    args = plan(x, y, out)
    assert [args[i] for i in (METHOD, M, N, K)] == [MATRIX, 1024, 1030, 1000]
    assert [args[i] for i in (TRANS_A, LDA, TRANS_B, LDB)] == [NO_TRANSPOSE, 1000, NO_TRANSPOSE, 1030]
    assert plan(x, y, out, blas=False)[METHOD] == GENERATED


def test_the_cuts_of_a_kind_choose_the_method():
    x, y, out = contiguous(0, 1024, 1000), contiguous(1, 1000, 1030), contiguous(2, 1024, 1030)
    work = 1024 * 1000 * 1030
    for cuts, method in ((Cuts(0, work), MATRIX), (Cuts(0, work + 1), GENERATED), (Cuts(work, work + 1), MATRIX),
                         (Cuts(work - 1, work + 1), GENERATED)):
        assert plan(x, y, out, choice=uniform(cuts))[METHOD] == method
    assert plan(x, y, out, choice=AVX512)[METHOD] == GENERATED


def test_small_products_use_blas_but_stacks_of_them_do_not():
    """Calls of BLAS from several threads at once wait for each other."""
    x, y, out = contiguous(0, 40, 30), contiguous(1, 30, 20), contiguous(2, 40, 20)
    assert [plan(x, y, out, choice=choice)[METHOD] for choice in (AVX512, OTHERS)] == [MATRIX, MATRIX]
    turned = transposed(contiguous(1, 20, 30))
    assert [plan(x, turned, out, choice=choice)[METHOD] for choice in (AVX512, OTHERS)] == [GENERATED, MATRIX]
    few = contiguous(0, 4, 30), turned, contiguous(2, 4, 20)
    assert plan(*few, choice=AVX512)[METHOD] == MATRIX, "the result is narrow"
    views = contiguous(0, 9, 40, 30), contiguous(1, 9, 30, 20), contiguous(2, 9, 40, 20)
    assert plan(*views, "aij,ajk->aik")[METHOD] == GENERATED
    tiny = contiguous(0, 4, 4), contiguous(1, 4, 4), contiguous(2, 4, 4)
    assert plan(*tiny)[METHOD] == GENERATED


def test_stacks_of_few_rows_with_long_sums_use_blas_that_is_fast_at_small_products():
    for terms, choice, method in ((8, AVX512, GENERATED), (64, AVX512, MATRIX), (64, AVX512_ALONE, GENERATED)):
        turned = View(1, 0, (9, terms, 64), (4 * 64 * terms, 4, 4 * terms))
        args = plan(contiguous(0, 9, 2, terms), turned, contiguous(2, 9, 2, 64), "aij,ajk->aik", choice=choice)
        assert args[METHOD] == method


def test_each_thread_has_several_pieces_of_a_large_product():
    sizes = ((1024, 1000, 1030), (64, 2000, 64), (3000, 100, 40), (16, 700, 3000), (2, 4000, 4000))
    for (m, k, n), threads in itertools.product(sizes, (2, 3, 8)):
        views = contiguous(0, m, k), contiguous(1, k, n), contiguous(2, m, n)
        args = gemm_args("ij,jk->ik", *views, np.dtype("f4"), Resources(False, threads=threads))
        pieces, work = args[ROW_BLOCKS] * args[COL_BLOCKS], m * n * k
        assert pieces >= min(threads, work >> 21)
        assert pieces >= min(2 * threads, work >> 23)
        assert args[ROWS] * args[ROW_BLOCKS] >= m > args[ROWS] * (args[ROW_BLOCKS] - 1)
        assert args[COLS] * args[COL_BLOCKS] >= n > args[COLS] * (args[COL_BLOCKS] - 1)


def test_rows_are_cut_before_columns_unless_few_would_be_left():
    for (m, k, n), turned, pieces in (((1024, 784, 512), False, (4, 1)), ((784, 1024, 512), True, (4, 1)),
                                      ((128, 784, 512), False, (1, 4)), ((512, 784, 512), False, (2, 2)),
                                      ((8, 4000, 512), False, (1, 4)), ((3000, 200, 40), False, (12, 1)),
                                      ((64, 10_000, 64), True, (1, 2)), ((512, 1024, 512), True, (2, 1))):
        x = transposed(contiguous(0, k, m)) if turned else contiguous(0, m, k)
        views = x, contiguous(1, k, n), contiguous(2, m, n)
        args = gemm_args("ij,jk->ik", *views, np.dtype("f4"), Resources(False, threads=2))
        assert (args[ROW_BLOCKS], args[COL_BLOCKS]) == pieces


def test_large_pieces_are_equally_many_for_each_thread():
    for (m, k, n), turned, threads, pieces in (
            ((784, 1024, 512), True, 3, (6, 1)), ((1024, 784, 512), False, 3, (6, 1)),
            ((128, 784, 512), False, 3, (1, 6)), ((512, 1024, 512), True, 5, (5, 1))):
        x = transposed(contiguous(0, k, m)) if turned else contiguous(0, m, k)
        views = x, contiguous(1, k, n), contiguous(2, m, n)
        args = gemm_args("ij,jk->ik", *views, np.dtype("f4"), Resources(False, threads=threads))
        assert (args[ROW_BLOCKS], args[COL_BLOCKS]) == pieces


def test_a_blas_with_threads_of_its_own_gets_products_whole():
    x, y, out = contiguous(0, 3, 1024, 1000), contiguous(1, 3, 1000, 1030), contiguous(2, 3, 1024, 1030)
    for whole, blocks in ((True, [1, 1, 1]), (False, [4, 4, 3])):
        args = gemm_args("aij,ajk->aik", x, y, out, np.dtype("f4"), Resources(True, whole))
        assert [args[i] for i in (METHOD, ROW_BLOCKS, COL_BLOCKS, GROUPS)] == [MATRIX, *blocks]


def test_products_without_rows_have_plans_for_any_blas():
    for (m, n, k), turned in itertools.product(((0, 16, 7), (0, 1, 9), (16, 0, 7), (1, 0, 7), (3, 5, 0)), (0, 1)):
        x = transposed(contiguous(0, k, m)) if turned else contiguous(0, m, k)
        y = transposed(contiguous(1, n, k)) if turned else contiguous(1, k, n)
        for whole in (False, True):
            args = gemm_args("ij,jk->ik", x, y, contiguous(2, m, n), np.dtype("f4"), Resources(True, whole))
            assert args[ROW_BLOCKS] * args[COL_BLOCKS] == int(m * n > 0)


def test_transposed_operands_of_blas():
    x, y = transposed(contiguous(0, 1000, 1024)), transposed(contiguous(1, 1030, 1000))
    args = plan(x, y, contiguous(2, 1024, 1030))
    assert [args[i] for i in (TRANS_A, LDA, TRANS_B, LDB)] == [TRANSPOSE, 1024, TRANSPOSE, 1000]


def test_matrix_and_vector():
    args = plan(contiguous(0, 300, 200), contiguous(1, 200, 1), contiguous(2, 300, 1))
    assert args[METHOD] == VECTOR
    assert [args[i] for i in (M, K, LDA)] == [300, 200, 200]


def test_small_stacks_are_generated_and_their_axes_merged():
    args = plan(contiguous(0, 2, 5, 3, 4), contiguous(1, 2, 5, 4, 6), contiguous(2, 2, 5, 3, 6), "abij,abjk->abik")
    assert [args[i] for i in (METHOD, BATCH, AXES)] == [GENERATED, 10, 1]
    assert args[-4:] == [10, 12, 24, 18]


def test_a_few_long_rows_times_a_vector_have_pieces():
    x, w, y = contiguous(0, 32, 10**6), contiguous(1, 10**6), contiguous(2, 32)
    args = plan(x, w, y, "ij,j->i")
    assert [args[i] for i in (METHOD, ROW_BLOCKS, COL_BLOCKS)] == [VECTOR, 4, 1]
    short = plan(contiguous(0, 32, 1000), contiguous(1, 1000), y, "ij,j->i")
    assert short[ROW_BLOCKS] == 1, "too little work for pieces"


def test_blas_has_one_thread_for_few_multiplications():
    for rows, expected in ((16, False), (64, True)):
        args = plan(contiguous(0, rows, 200), contiguous(1, 200, 1), contiguous(2, rows, 1))
        assert args[METHOD] == VECTOR
        assert shared_by_blas(args) == expected
    x, y, out = contiguous(0, 1024, 1000), contiguous(1, 1000, 1030), contiguous(2, 1024, 1030)
    assert shared_by_blas(plan(x, y, out))
    small = plan(contiguous(0, 40, 30), contiguous(1, 30, 20), contiguous(2, 40, 20))
    assert small[METHOD] == MATRIX
    assert not shared_by_blas(small)
