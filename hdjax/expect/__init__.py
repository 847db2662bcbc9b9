"""`[expect]` in a config: what an experiment should show, as rules that can fail.

    rules = [
        "sup_error(risk) < 0.1",
        "-0.57 <= exponent(risk) <= -0.43",
        "abs(value(risk, t=5) - limit(risk, t=5)) < 3 * std(risk, t=5) / sqrt(runs)",
    ]

A rule is a comparison (chains are fine) of numbers, + - * / **, `abs`, `sqrt`, `log`, `exp`,
`min`, `max`, the names `runs`, `dimension` and `pi`, and of these functions of a statistic s:

    value(s, t=)           mean over the finite runs; without t, here and below, at the last time
    final(s)               the same at the last time
    std(s, t=)             their standard deviation
    smallest(s, t=), largest(s, t=)
                           the smallest and the largest of the kept runs
    quantile(s, q=, t=)    quantile of the kept runs, q from 0 to 1
    limit(s, t=)           the limit; for realised starts the mean of the runs' own
    predicted_std(s, t=)   the standard deviation that theory predicts
    rise(s)                the largest rise of the limit from one record to the next
    sup_error(s)           median over the finite runs of sup over t of |run - limit|
    max_sup_error(s)       its largest value; not a number if a run diverged
    diverged()             fraction of the runs that diverged
    path(p), path_mean(p)  a path statistic: median and mean over the runs
    path_limit(p)          that of the limit
    probability(p, k=)     share of the runs whose path statistic, a time say, is k when it is
                           rounded up to an integer
    exponent(s), exponent_low(s), exponent_high(s)
                           of a scaling: the fitted power of d, and the ends of its interval

An entry of a vector or matrix is `overlaps[0, 1]`.  In a sweep every function also takes the axes
by name, `value(risk, t=5, learning_rate=0.5)`, and in a scaling `sup_error(risk, dimension=256)`;
the point must be one that was run (`max_sup_error` and `diverged` may be over all).  Times are
the nominal ones of records.  A rule whose numbers are not finite never passes.
"""

from hdjax.expect.rules import check, evaluate

__all__ = ["check", "evaluate"]
