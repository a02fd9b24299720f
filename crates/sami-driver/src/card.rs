//! The model card: what a stranger must know about a trained model.

use std::fmt::Write as _;

use sami_data::QueryReport;

use crate::guards::GuardReport;
use crate::recipe::{OptimizerName, Recipe};
use crate::score::ScoreSummary;

/// The card of a run's last model, in Markdown with the header that model hubs read.
pub(crate) fn model_card(
    recipe: &Recipe,
    data: &QueryReport,
    last: usize,
    stopped: Option<&GuardReport>,
    evaluations: &[ScoreSummary],
) -> String {
    let mut card = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut card, recipe, data, last, stopped, evaluations);
    card
}

fn write(
    card: &mut String,
    recipe: &Recipe,
    data: &QueryReport,
    last: usize,
    stopped: Option<&GuardReport>,
    evaluations: &[ScoreSummary],
) -> std::fmt::Result {
    let base = recipe.model.base.file_name().unwrap_or(recipe.model.base.as_os_str()).to_string_lossy();
    let title = if recipe.name.is_empty() { &*base } else { &recipe.name };
    writeln!(
        card,
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- sami\n- alignment\n---\n"
    )?;
    writeln!(card, "# {title}\n")?;
    writeln!(
        card,
        "`{base}`, trained with SAMI (Self-Supervised Alignment with Mutual Information, arXiv 2404.14313): without preference \
         labels or demonstrations, the mutual information between written principles and the model's own responses was raised. \
         This is the model after iteration {last} of {}.\n",
        recipe.training.iterations
    )?;
    if let Some(report) = stopped {
        writeln!(card, "The run was ended early: {report}.\n")?;
    }
    let training = &recipe.training;
    let optimizer = match training.optimizer {
        OptimizerName::AdamW => "AdamW",
        OptimizerName::RmsProp => "RMSprop",
    };
    writeln!(card, "## Training\n\n| | |\n|---|---|")?;
    let steps: Vec<_> = (1..=last).map(|iteration| training.steps(iteration).to_string()).collect();
    writeln!(card, "| optimizer steps per iteration | {} |", steps.join(", "))?;
    writeln!(card, "| queries per step | {} |", training.batch_size)?;
    writeln!(card, "| constitutions per query | {} |", recipe.constitutions.n_constitutions)?;
    writeln!(card, "| optimizer | {optimizer}, learning rate {:e} |", training.learning_rate)?;
    writeln!(card, "| coefficient of the KL to the base | {} |", training.beta)?;
    writeln!(
        card,
        "| sampling | temperature {}, at most {} tokens |",
        recipe.sampling.temperature, recipe.sampling.max_new_tokens
    )?;
    writeln!(card, "| seed | {} |", recipe.seed)?;
    writeln!(
        card,
        "\nThe complete recipe, with versions and hardware, is `recipe.toml` of the run.\n\n## Data\n"
    )?;
    writeln!(card, "| file | queries | SHA-256 |\n|---|---|---|")?;
    for file in &data.files {
        let name = file.path.file_name().unwrap_or(file.path.as_os_str()).to_string_lossy();
        writeln!(card, "| {name} | {} | {} |", file.queries, file.sha256)?;
    }
    if !evaluations.is_empty() {
        writeln!(
            card,
            "\n## Figures\n\nOn {} held-out queries, every model's own answers:\n",
            recipe.evaluation.queries
        )?;
        writeln!(
            card,
            "| iteration | MI over constitutions (nats, at most {:.3}) | over responses | tokens per response |",
            evaluations[0].mi.cap
        )?;
        writeln!(card, "|---|---|---|---|")?;
        for (iteration, one) in evaluations.iter().enumerate() {
            let (mi, responses) = (one.mi.constitutions.mean, one.mi.responses.mean);
            writeln!(card, "| {iteration} | {mi:.4} | {responses:.4} | {:.1} |", one.response_tokens)?;
        }
    }
    writeln!(
        card,
        "\n## Limits\n\nMutual information says how well responses tell the constitutions apart, not how good they are: it stays \
         high while text falls apart, so read some answers before you rely on this model. It was trained on the principles named \
         in the recipe; how it follows others is not known. It inherits whatever the base model has learned, false and harmful \
         statements included. Responses may have become longer or shorter than the base's."
    )
}
