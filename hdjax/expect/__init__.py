"""The table `[expect]` of a config: rules about the numbers of a result, each of which may fail.

The command line checks the rules before a run (`check`) and evaluates them after it (`evaluate`).

    rules = [
        "sup_error(risk) < 0.1",
        "-0.57 <= exponent(risk) <= -0.43",
        "abs(value(risk, t=5) - limit(risk, t=5)) < 3 * std(risk, t=5) / sqrt(runs)",
    ]

A rule compares numbers by <, <=, >, >=, == or != (also in a chain).  A number is made of constants,
+ - * / **, `abs`, `sqrt`, `log`, `exp`, `min`, `max`, the names `runs`, `dimension` and `pi`, and
the following functions of a statistic s or of a path statistic p.  The argument t is the nominal
time of a record; without it a function refers to the last record.

    value(s, t=)           mean over the finite runs
    final(s)               mean over the finite runs at the last record
    std(s, t=)             standard deviation over the finite runs
    smallest(s, t=)        smallest value among the kept runs
    largest(s, t=)         largest value among the kept runs
    quantile(s, q=, t=)    quantile of the kept runs, q from 0 to 1
    limit(s, t=)           the limit; with realised starts the mean of the limits of the runs
    predicted_mean(s, t=)  the limit and its correction to order 1/d
    predicted_std(s, t=)   the standard deviation that theory predicts
    rise(s)                the largest rise of the limit from one record to the next
    sup_error(s)           median over the finite runs of sup over t of |run - limit|
    max_sup_error(s)       largest value of that sup over the runs; NaN if a run diverged
    diverged()             fraction of the runs that diverged
    path(p)                median of a path statistic over the runs
    path_mean(p)           mean of a path statistic over the runs
    path_limit(p)          the path statistic of the limit
    probability(p, k=)     fraction of the runs whose path statistic, rounded up to an integer, is k
    exponent(s)            the power of d that a scaling fits
    exponent_low(s), exponent_high(s)
                           the ends of the interval of that exponent

An entry of a vector or matrix is `overlaps[0, 1]`.  In a sweep every function takes the axes by
name, as in `value(risk, t=5, learning_rate=0.5)`, and in a scaling the dimension, as in
`sup_error(risk, dimension=256)`.  The point must be one that was run; `max_sup_error` and
`diverged` may leave out axes, and are then over all points.  A rule with a number that is not
finite never passes.
"""

from hdjax.expect.rules import check, evaluate

__all__ = ["check", "evaluate"]
