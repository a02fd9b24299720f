//! Contrast scoring and training: from sets of texts to log-probabilities and gradients.

use ndarray::Array2;
use sami_policy::{ContrastSet, GradientOf, SetGradient, SetLogps};

use crate::error::{Error, Result};
use crate::gradients::Gradients;
use crate::head::check_logp;
use crate::model::Model;
use crate::packing::{PackedRow, Sequence, alike, packed_len};
use crate::pass::{Keep, KlTerm, Pass, Plan, Routes};
use crate::prompt::PromptFormat;
use crate::tokenizer::Tokenizer;

/// A contrast set as tokens: `rows[c][r]`.
pub(crate) struct TokenisedSet {
    id: String,
    rows: Vec<Vec<Sequence>>,
    /// The own constitution of every response.
    targets: Vec<usize>,
    /// Entries where prompt + response tokenised jointly differ from the prompt's own tokens.
    pub(crate) boundary_merges: usize,
}

impl TokenisedSet {
    pub(crate) fn new(
        set: &ContrastSet,
        format: PromptFormat,
        tokenizer: &Tokenizer,
        model: &Model,
    ) -> Result<Self> {
        let mut boundary_merges = 0;
        let mut rows = Vec::with_capacity(set.prompts().len());
        for (c, prompt) in set.prompts().iter().enumerate() {
            let what = |r: usize| format!("set {}, prompt {c}, response {r}", set.id());
            let prompt = format.write(prompt, tokenizer)?;
            let prompt_ids = prompt.ids(&format!("set {}, prompt {c}", set.id()))?;
            if prompt_ids.is_empty() {
                return Err(Error::NoTokens { what: format!("set {}, prompt {c}", set.id()) });
            }
            let mut row = Vec::with_capacity(set.responses().len());
            for (r, response) in set.responses().iter().enumerate() {
                let start = prompt_ids.len();
                let ids = match &response.token_ids {
                    Some(ids) => [prompt_ids.as_slice(), ids].concat(),
                    None => prompt.ids_with(&response.text, &what(r))?,
                };
                if ids.get(..start) != Some(prompt_ids.as_slice()) {
                    boundary_merges += 1;
                }
                if ids.len() <= start {
                    return Err(Error::NoTokens { what: what(r) });
                }
                check_sequence(&ids, model, || what(r))?;
                let frequencies = model.rope.frequencies(ids.len());
                row.push(Sequence { ids, start, frequencies });
            }
            rows.push(row);
        }
        Ok(Self { id: set.id().to_owned(), rows, targets: set.targets(), boundary_merges })
    }

    fn shape(&self) -> (usize, usize) {
        (self.rows.len(), self.rows.first().map_or(0, Vec::len))
    }

    fn packed_len(&self) -> usize {
        let len = |row: &[Sequence], responses: &[usize]| packed_len(&picked(row, responses));
        self.rows.iter().flat_map(|row| alike(row).into_iter().map(|same| len(row, &same))).sum()
    }

    /// Packed rows. A row longer than the budget is cut into several with fewer responses each, and so
    /// is one whose responses have not all the same frequencies.
    fn pieces(&self, set: usize, budget: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (constitution, row) in self.rows.iter().enumerate() {
            for same in alike(row) {
                let mut rest = same.as_slice();
                while !rest.is_empty() {
                    let mut len = 1;
                    while len < rest.len() && packed_len(&picked(row, &rest[..=len])) <= budget {
                        len += 1;
                    }
                    let (responses, left) = rest.split_at(len);
                    let packed = PackedRow::new(&picked(row, responses));
                    pieces.push(Piece { set, constitution, responses: responses.to_vec(), packed });
                    rest = left;
                }
            }
        }
        pieces
    }
}

fn picked<'a>(row: &'a [Sequence], responses: &[usize]) -> Vec<&'a Sequence> {
    responses.iter().map(|&response| &row[response]).collect()
}

/// Refuses ids without an embedding, and sequences longer than the model's positions.
pub(crate) fn check_sequence(ids: &[u32], model: &Model, what: impl Fn() -> String) -> Result<()> {
    let (vocab_size, limit) = (model.config.vocab_size, model.config.longest_sequence());
    if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
        return Err(Error::TokenOutOfRange { what: what(), id, vocab_size });
    }
    if ids.len() > limit {
        return Err(Error::TooLong { what: what(), tokens: ids.len(), limit });
    }
    Ok(())
}

/// One packed row, or a part of one, and the entries of the matrix that it fills.
struct Piece {
    set: usize,
    constitution: usize,
    /// The response of each of the packed sequences.
    responses: Vec<usize>,
    packed: PackedRow,
}

/// Scores every set.
pub(crate) fn score(model: &Model, plan: Plan<'_>, sets: &[TokenisedSet]) -> Result<Vec<SetLogps>> {
    Ok(score_with_routes(model, plan, sets)?.0)
}

/// The log-probabilities, and which experts each group of pieces went to.
fn score_with_routes(
    model: &Model,
    plan: Plan<'_>,
    sets: &[TokenisedSet],
) -> Result<(Vec<SetLogps>, Vec<Routes>)> {
    let mut routes = Vec::new();
    let mut matrices: Vec<SetLogps> = sets.iter().map(TokenisedSet::empty_logps).collect();
    let pieces: Vec<Piece> =
        sets.iter().enumerate().flat_map(|(index, set)| set.pieces(index, plan.token_budget)).collect();
    for batch in batches(&pieces, |piece| piece.packed.len(), plan.token_budget) {
        let pass = Pass::run(model, plan, &packed(batch), Keep::Nothing, Routes::new())?;
        collect(sets, batch, &pass, &mut matrices)?;
        routes.push(pass.into_routes());
    }
    Ok((matrices, routes))
}

/// Scores every set and accumulates the gradient of Σ G ⊙ sum_logps + κ·kl.
///
/// Sets that fit the budget together take one pass: forward, G, backward. A set that does not fit alone takes two (GradCache):
/// its matrix is scored without gradient, and once G is known each piece runs forward and backward on its own.
pub(crate) fn contrast_step(
    model: &Model,
    reference: Option<&Model>,
    plan: Plan<'_>,
    sets: &[TokenisedSet],
    gradient: &mut GradientOf<'_>,
    grads: &mut Gradients,
) -> Result<Vec<SetLogps>> {
    let mut matrices = Vec::with_capacity(sets.len());
    let keep = if plan.recompute { Keep::Inputs } else { Keep::Graphs };
    for batch in batches(sets, TokenisedSet::packed_len, plan.token_budget) {
        let first = matrices.len();
        let pieces: Vec<Piece> =
            batch.iter().enumerate().flat_map(|(index, set)| set.pieces(index, plan.token_budget)).collect();
        let fits = pieces.iter().map(|piece| piece.packed.len()).sum::<usize>() <= plan.token_budget;
        let one_pass = fits || pieces.len() == 1;
        let mut logps: Vec<SetLogps> = batch.iter().map(TokenisedSet::empty_logps).collect();
        let (mut kept, mut routes) = (None, Vec::new());
        if one_pass {
            let pass = Pass::run(model, plan, &packed(&pieces), keep, Routes::new())?;
            collect(batch, &pieces, &pass, &mut logps)?;
            kept = Some(pass);
        } else {
            (logps, routes) = score_with_routes(model, plan, batch)?;
        }
        let gradients = batch
            .iter()
            .zip(&logps)
            .enumerate()
            .map(|(index, (set, logps))| set.checked(gradient(first + index, logps)?, reference.is_some()))
            .collect::<Result<Vec<_>>>()?;
        let mut backward = |pieces: &[Piece], pass: Pass<'_>| -> Result<()> {
            let weights = token_weights(pieces, &gradients);
            let own = OwnTokens::of(batch, pieces);
            let coefficients = own.coefficients(&gradients);
            let term = reference.filter(|_| !own.places.is_empty()).map(|reference| KlTerm {
                reference,
                places: &own.places,
                coefficients: coefficients.as_deref(),
            });
            let kls = pass.backward(&weights, term, grads)?;
            own.collect(&kls, &mut logps);
            Ok(())
        };
        match kept {
            Some(pass) => backward(&pieces, pass)?,
            None => {
                // The same groups as in the first pass, and along the same routes.
                let mut routes = routes.into_iter();
                for part in batches(&pieces, |piece| piece.packed.len(), plan.token_budget) {
                    let routes = routes.next().unwrap_or_default();
                    backward(part, Pass::run(model, plan, &packed(part), keep, routes)?)?;
                }
            }
        }
        matrices.extend(logps);
    }
    Ok(matrices)
}

/// The counted tokens of responses under their own constitutions, where the KL is taken.
struct OwnTokens {
    /// Places among the counted tokens of the pieces, ascending.
    places: Vec<usize>,
    /// The set of each, and its share in that set's mean: 1 / (responses · tokens of its response).
    shares: Vec<(usize, f64)>,
}

impl OwnTokens {
    fn of(sets: &[TokenisedSet], pieces: &[Piece]) -> Self {
        let (mut places, mut shares) = (Vec::new(), Vec::new());
        let counted = pieces.iter().flat_map(|piece| piece.packed.counted.iter().map(move |c| (piece, c)));
        for (place, (piece, counted)) in counted.enumerate() {
            let (set, response) = (&sets[piece.set], piece.responses[counted.sequence]);
            if set.targets[response] == piece.constitution {
                let tokens = set.rows[piece.constitution][response].counted();
                places.push(place);
                shares.push((piece.set, 1.0 / (set.targets.len() * tokens) as f64));
            }
        }
        Self { places, shares }
    }

    /// ∂loss/∂KL of every token; `None` where the loss has no KL term.
    fn coefficients(&self, gradients: &[SetGradient]) -> Option<Vec<f32>> {
        let values = self.shares.iter().map(|(set, share)| (gradients[*set].kl * share) as f32);
        gradients.iter().any(|gradient| gradient.kl != 0.0).then(|| values.collect())
    }

    /// Adds the tokens' KL to the means of their sets.
    fn collect(&self, kls: &[f32], logps: &mut [SetLogps]) {
        for ((set, share), value) in self.shares.iter().zip(kls) {
            *logps[*set].kl.get_or_insert(0.0) += share * f64::from(*value);
        }
    }
}

impl TokenisedSet {
    fn empty_logps(&self) -> SetLogps {
        let shape = self.shape();
        let tokens = Array2::from_shape_fn(shape, |(c, r)| self.rows[c][r].counted());
        SetLogps { sum_logps: Array2::zeros(shape), tokens, kl: None }
    }

    /// Refuses a gradient of another shape, one that is not finite, and a KL term without a reference.
    fn checked(&self, gradient: SetGradient, has_reference: bool) -> Result<SetGradient> {
        let SetGradient { sum_logps: g, kl } = &gradient;
        if g.dim() != self.shape() {
            return Err(Error::GradientShape { id: self.id.clone(), got: g.dim(), expected: self.shape() });
        }
        if !kl.is_finite() || g.iter().any(|entry| !entry.is_finite()) {
            return Err(Error::NonFinite {
                what: format!("the gradient in the log-probabilities of set {}", self.id),
            });
        }
        if *kl != 0.0 && !has_reference {
            return Err(Error::NoReference);
        }
        Ok(gradient)
    }
}

/// Consecutive items whose sizes add up to at most the budget; at least one item each.
pub(crate) fn batches<T>(items: &[T], size: impl Fn(&T) -> usize, budget: usize) -> Vec<&[T]> {
    let mut batches = Vec::new();
    let mut start = 0;
    while start < items.len() {
        let mut total = size(&items[start]);
        let mut end = start + 1;
        while end < items.len() && total + size(&items[end]) <= budget {
            total += size(&items[end]);
            end += 1;
        }
        batches.push(&items[start..end]);
        start = end;
    }
    batches
}

fn packed(pieces: &[Piece]) -> Vec<&PackedRow> {
    pieces.iter().map(|piece| &piece.packed).collect()
}

/// Adds the pieces' token log-probabilities to the entries that they belong to, in f64.
fn collect(sets: &[TokenisedSet], pieces: &[Piece], pass: &Pass<'_>, logps: &mut [SetLogps]) -> Result<()> {
    let mut values = pass.logps()?.into_iter();
    for piece in pieces {
        for (counted, value) in piece.packed.counted.iter().zip(&mut values) {
            let (c, r) = (piece.constitution, piece.responses[counted.sequence]);
            check_logp(value, || {
                format!("a log-probability of set {}, constitution {c}, response {r}", sets[piece.set].id)
            })?;
            logps[piece.set].sum_logps[[c, r]] += f64::from(value);
        }
    }
    Ok(())
}

/// The weight of every counted token: its entry of G, for entries are sums over tokens.
fn token_weights(pieces: &[Piece], gradients: &[SetGradient]) -> Vec<f32> {
    let of = |piece: &Piece, sequence: usize| {
        gradients[piece.set].sum_logps[[piece.constitution, piece.responses[sequence]]] as f32
    };
    let counted =
        pieces.iter().flat_map(|piece| piece.packed.counted.iter().map(move |c| (piece, c.sequence)));
    counted.map(|(piece, sequence)| of(piece, sequence)).collect()
}
