"""Inverse kinematics of an arm with Denavit-Hartenberg joints: distance of its hand from a target."""

import numpy as np


def joint(theta, d, a, alpha):
    ct, st = np.cos(theta), np.sin(theta)
    ca, sa = np.cos(alpha), np.sin(alpha)
    return np.array([
        [ct, -st * ca, st * sa, a * ct],
        [st, ct * ca, -ct * sa, a * st],
        [0.0, sa, ca, d],
        [0.0, 0.0, 0.0, 1.0],
    ])


class Arm:
    offsets = [0.3, 0.0, 0.1]
    lengths = [0.0, 0.7, 0.5]
    twists = [np.pi / 2, 0.0, -np.pi / 6]

    def hand(self, angles):
        T = np.eye(4)
        points = [T[:3, 3]]
        for theta, d, a, alpha in zip(angles, self.offsets, self.lengths, self.twists):
            T = T @ joint(theta, d, a, alpha)
            points.append(T[:3, 3])
        return np.vstack(points)


arm = Arm()


def loss(params, target):
    points = arm.hand(params)
    reach = np.linalg.norm(points[-1] - target)
    height = np.minimum(points[:, 2], 0.0)
    return reach + 10.0 * np.sum(height**2)


params = np.array([0.3, 0.8, -0.5])
examples = np.random.default_rng(14).uniform(-1, 1, size=(6, 3))
