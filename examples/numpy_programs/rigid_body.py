"""Alignment of a cloud of points by three Euler angles and a shift."""

from numpy import array, cos, mean, sin, sum


def rotation(roll, pitch, yaw):
    cr, sr = cos(roll), sin(roll)
    cp, sp = cos(pitch), sin(pitch)
    cy, sy = cos(yaw), sin(yaw)
    Rx = array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    Ry = array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    Rz = array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return Rz @ Ry @ Rx


def loss(params, points, target):
    R = rotation(*params[:3])
    moved = (R @ points.T).T + params[3:]
    return mean(sum((moved - target) ** 2, axis=1))


import numpy  # noqa: E402

params = numpy.array([0.1, -0.3, 0.6, 0.5, 0.0, -0.2])
examples = (numpy.random.default_rng(4).normal(size=(5, 6, 3)), numpy.random.default_rng(5).normal(size=(5, 6, 3)))
