"""The paper's own numbers, to be printed beside ours and never mixed with them.

They were got with 4096-d and 384-d features; see docs/fidelity.md for what that
means for a comparison.
"""

from typing import NamedTuple

# Data set: users, items, interactions, sparsity in %.
TABLE_1 = {
    "baby": (19_445, 7_037, 160_792, 99.883),
    "sports": (35_598, 18_357, 296_337, 99.955),
    "clothing": (39_387, 23_033, 278_677, 99.969),
}

# The attack budgets of Tables 4 and 5.
BUDGETS = (0.025, 0.05, 0.075, 0.1)


class Table2Row(NamedTuple):
    """HR@50 before; after and gain under four attacks, all in %; recommendation metrics."""

    before: float
    fgsm: float
    fgsm_gain: float
    fgsm_aligned: float
    fgsm_aligned_gain: float
    pgd: float
    pgd_gain: float
    pgd_aligned: float
    pgd_aligned_gain: float
    recall_at_10: float
    ndcg_at_10: float


_TABLE_2 = """
baby vbpr none 0.667 3.865 479.38 3.908 485.80 4.111 516.15 4.143 520.99 0.0503 0.027
baby vbpr uat 0.622 2.381 282.96 2.383 283.41 2.450 294.15 2.451 294.25 0.0484 0.0264
baby vbpr uat_mc 0.621 1.515 143.98 1.515 144.00 1.544 148.65 1.544 148.65 0.0476 0.0253
baby mmgcn none 0.622 1.747 181.03 1.748 181.14 3.399 446.76 3.421 450.30 0.0413 0.022
baby mmgcn uat 0.472 0.507 7.29 0.508 7.49 0.515 9.12 0.516 9.34 0.0344 0.0185
baby mmgcn uat_mc 0.479 0.513 7.21 0.514 7.47 0.519 8.46 0.520 8.62 0.0341 0.0185
sports vbpr none 0.025 6.547 25722.99 6.586 25876.73 7.253 28506.93 7.279 28610.25 0.0586 0.0319
sports vbpr uat 0.025 0.028 13.45 0.028 13.45 0.029 13.73 0.029 13.73 0.0510 0.0280
sports vbpr uat_mc 0.024 0.026 10.32 0.026 10.32 0.026 10.32 0.026 10.32 0.0508 0.0280
sports mmgcn none 0.024 0.266 1024.04 0.268 1033.23 0.572 2315.13 0.581 2352.82 0.0385 0.0206
sports mmgcn uat 0.035 0.038 7.01 0.039 11.02 0.044 24.45 0.044 25.45 0.0313 0.0172
sports mmgcn uat_mc 0.034 0.034 0.00 0.037 8.44 0.041 19.14 0.041 19.14 0.0317 0.0173
clothing vbpr none 0.036 1.335 3558.26 1.380 3682.09 1.419 3788.87 1.438 3838.61 0.0384 0.0211
clothing vbpr uat 0.031 0.287 818.66 0.303 869.17 0.306 878.50 0.312 898.38 0.0343 0.0189
clothing vbpr uat_mc 0.030 0.038 26.64 0.038 26.85 0.038 27.70 0.038 27.70 0.0333 0.0184
clothing mmgcn none 0.014 1.886 13282.43 1.941 13670.72 9.035 64019.37 9.134 64715.32 0.0239 0.0123
clothing mmgcn uat 0.014 0.025 76.00 0.026 81.78 0.035 148.44 0.036 149.33 0.0221 0.0114
clothing mmgcn uat_mc 0.015 0.019 29.44 0.020 33.77 0.032 119.05 0.032 121.65 0.0221 0.0115
"""

# Gain in % at each of BUDGETS, by training budget (0 is w/o AT): FGSM, and FGSM with L_align.
_TABLE_4 = """
baby vbpr 0 54.25 146.19 288.11 479.38
baby mmgcn 0 81.49 152.20 176.08 181.03
baby vbpr 0.025 49.33 138.78 270.46 456.33
baby mmgcn 0.025 12.39 21.72 27.69 31.13
baby vbpr 0.05 43.01 122.32 243.43 412.88
baby mmgcn 0.05 5.65 9.30 13.07 15.82
baby vbpr 0.075 28.82 73.92 142.97 233.41
baby mmgcn 0.075 3.97 7.37 10.82 12.94
baby vbpr 0.1 19.38 48.45 89.52 143.98
baby mmgcn 0.1 2.42 4.32 5.83 7.21
sports vbpr 0 734.90 4636.57 13506.93 25722.99
sports mmgcn 0 201.19 505.93 789.32 1024.04
sports vbpr 0.025 277.40 1946.12 6601.83 14000.23
sports mmgcn 0.025 30.33 48.74 51.46 45.19
sports vbpr 0.05 58.84 292.82 954.70 2356.63
sports mmgcn 0.05 16.90 21.90 26.43 27.14
sports vbpr 0.075 6.90 14.37 22.13 34.48
sports mmgcn 0.075 7.32 8.87 9.98 10.42
sports vbpr 0.1 2.36 4.72 7.37 10.32
sports mmgcn 0.1 0.00 3.91 4.53 6.38
clothing vbpr 0 121.04 519.48 1508.35 3558.26
clothing mmgcn 0 1072.07 6460.36 12045.05 13282.43
clothing vbpr 0.025 79.76 327.66 1004.01 2486.97
clothing mmgcn 0.025 128.08 252.71 303.45 305.42
clothing vbpr 0.05 33.95 100.20 244.99 522.09
clothing mmgcn 0.05 43.98 61.28 68.42 71.80
clothing vbpr 0.075 13.35 36.23 67.37 123.52
clothing mmgcn 0.075 30.04 48.50 51.93 56.22
clothing vbpr 0.1 2.96 9.30 16.70 26.64
clothing mmgcn 0.1 21.65 25.06 28.04 29.44
"""
_TABLE_5 = """
baby vbpr 0 54.81 148.29 291.56 485.80
baby mmgcn 0 81.68 152.74 176.58 181.14
baby vbpr 0.025 49.33 138.78 270.46 456.33
baby mmgcn 0.025 12.55 22.02 28.63 32.24
baby vbpr 0.05 43.01 122.32 243.43 412.92
baby mmgcn 0.05 5.71 9.42 13.21 15.97
baby vbpr 0.075 28.82 73.92 142.97 233.41
baby mmgcn 0.075 3.97 7.39 10.85 13.05
baby vbpr 0.1 19.38 48.47 89.54 144.00
baby mmgcn 0.1 2.44 4.35 5.88 7.47
sports vbpr 0 754.29 4737.40 13737.12 25876.73
sports mmgcn 0 202.37 512.76 807.12 1033.23
sports vbpr 0.025 277.40 1947.26 6602.51 14000.68
sports mmgcn 0.025 31.59 52.30 52.72 56.49
sports vbpr 0.05 60.22 296.96 965.75 2384.53
sports mmgcn 0.05 17.38 30.00 30.48 31.19
sports vbpr 0.075 7.18 14.66 23.56 35.34
sports mmgcn 0.075 8.65 11.75 13.75 14.63
sports vbpr 0.1 2.36 4.72 7.37 10.32
sports mmgcn 0.1 4.94 6.58 7.82 8.44
clothing vbpr 0 125.91 534.78 1554.78 3682.09
clothing mmgcn 0 1091.44 6598.65 12292.34 13670.72
clothing vbpr 0.025 79.76 327.66 1004.61 2488.58
clothing mmgcn 0.025 132.02 263.05 327.59 340.89
clothing vbpr 0.05 33.95 100.61 244.99 522.70
clothing mmgcn 0.05 47.37 70.30 79.70 80.83
clothing vbpr 0.075 13.35 36.23 67.58 123.73
clothing mmgcn 0.075 32.19 54.94 57.08 63.52
clothing vbpr 0.1 3.38 9.51 16.70 26.85
clothing mmgcn 0.1 22.51 27.05 29.53 33.77
"""


def _read(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().splitlines()]


# (data set, victim, defence) -> row.
TABLE_2 = {tuple(cells[:3]): Table2Row(*map(float, cells[3:])) for cells in _read(_TABLE_2)}
# (data set, victim, training budget) -> gains in %.
TABLE_4, TABLE_5 = (
    {(c[0], c[1], float(c[2])): tuple(map(float, c[3:])) for c in _read(text)}
    for text in (_TABLE_4, _TABLE_5)
)
