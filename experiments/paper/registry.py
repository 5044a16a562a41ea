"""All artefacts, in the order of the report."""

from experiments.paper import (
    alpha,
    appendix_c,
    coordination,
    digits,
    epochs_page,
    figure1,
    figure3,
    figure6,
    figure8,
    matched_ball,
    table1,
    table2,
    table4,
)

ARTEFACTS = {
    module.ARTEFACT.name: module.ARTEFACT
    for module in (
        table1,
        figure1,
        figure3,
        table2,
        table4,
        figure6,
        coordination,
        figure8,
        appendix_c,
        matched_ball,
        digits,
        epochs_page,
        alpha,
    )
}
