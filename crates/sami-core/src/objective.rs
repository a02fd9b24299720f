//! The loss and its gradient.

use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use crate::contrast::{self, Contrast, Slot, Workspace};
use crate::kernel::{Losses, Weights};
use crate::{Element, Error, Reduction};

/// Which softmax the loss contrasts over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Side {
    /// Both terms: the paper's loss.
    #[default]
    TwoSided,
    /// Row-wise softmax only: which response belongs to this constitution?
    OverResponses,
    /// Column-wise softmax only: which constitution does this response belong to?
    OverConstitutions,
}

/// Weights of the two terms of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TermWeights {
    /// Weight of the row term, −log softmax over responses.
    pub over_responses: f64,
    /// Weight of the column term, −log softmax over constitutions.
    pub over_constitutions: f64,
}

/// Settings of an [`Objective`] before they are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct ObjectiveBuilder {
    side: Side,
    weights: Option<TermWeights>,
    reduction: Reduction,
}

impl ObjectiveBuilder {
    /// Which terms the loss has. Default: both.
    pub fn side(mut self, side: Side) -> Self {
        self.side = side;
        self
    }

    /// Weights of the terms: positive for every term that the side has, 0 for one that it lacks. Default: ½ and ½ for
    /// the two-sided loss (the paper's), 1 for the only term of a one-sided loss.
    pub fn weights(mut self, over_responses: f64, over_constitutions: f64) -> Self {
        self.weights = Some(TermWeights { over_responses, over_constitutions });
        self
    }

    /// How per-token log-probabilities become the matrix. Default: the mean.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The objective, if the settings make one.
    ///
    /// # Errors
    ///
    /// [`Error::Weight`], [`Error::SideWeights`], [`Error::Exponent`].
    pub fn check(self) -> Result<Objective, Error> {
        self.reduction.check()?;
        let default = match self.side {
            Side::TwoSided => (0.5, 0.5),
            Side::OverResponses => (1.0, 0.0),
            Side::OverConstitutions => (0.0, 1.0),
        };
        let weights =
            self.weights.unwrap_or(TermWeights { over_responses: default.0, over_constitutions: default.1 });
        let TermWeights { over_responses, over_constitutions } = weights;
        for (term, value) in [("over_responses", over_responses), ("over_constitutions", over_constitutions)]
        {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::Weight { term, value });
            }
        }
        let (side, needs) = match self.side {
            Side::TwoSided => ("two_sided", "both weights above 0"),
            Side::OverResponses => ("over_responses", "over_responses above 0 and over_constitutions = 0"),
            Side::OverConstitutions => {
                ("over_constitutions", "over_constitutions above 0 and over_responses = 0")
            }
        };
        if (over_responses > 0.0) != (default.0 > 0.0) || (over_constitutions > 0.0) != (default.1 > 0.0) {
            return Err(Error::SideWeights { side, needs, over_responses, over_constitutions });
        }
        Ok(Objective { side: self.side, weights, reduction: self.reduction })
    }
}

/// The SAMI objective: which terms, their weights, and the reduction of tokens that its matrices were made with.
///
/// Valid by construction; the default is the paper's (two-sided, equal weights, mean over tokens).
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "ObjectiveBuilder", into = "ObjectiveBuilder")
)]
pub struct Objective {
    side: Side,
    weights: TermWeights,
    reduction: Reduction,
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            side: Side::TwoSided,
            weights: TermWeights { over_responses: 0.5, over_constitutions: 0.5 },
            reduction: Reduction::Mean,
        }
    }
}

impl TryFrom<ObjectiveBuilder> for Objective {
    type Error = Error;
    fn try_from(builder: ObjectiveBuilder) -> Result<Self, Error> {
        builder.check()
    }
}

impl From<Objective> for ObjectiveBuilder {
    fn from(objective: Objective) -> Self {
        Self { side: objective.side, weights: Some(objective.weights), reduction: objective.reduction }
    }
}

/// A loss and its gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct LossAndGrad<F> {
    /// The loss, in the units of the matrix (nats, or nats per token).
    pub loss: F,
    /// ∂loss/∂L, of the matrix's shape.
    pub grad: Array2<F>,
}

impl<F: Element> LossAndGrad<F> {
    /// Euclidean norm of the gradient in L.
    pub fn grad_norm(&self) -> f64 {
        self.grad.iter().map(|g| g.to_f64() * g.to_f64()).sum::<f64>().sqrt()
    }
}

impl Objective {
    /// Starts from the paper's settings.
    pub fn builder() -> ObjectiveBuilder {
        ObjectiveBuilder::default()
    }

    /// Which terms the loss has.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Their weights.
    pub fn weights(&self) -> TermWeights {
        self.weights
    }

    /// How per-token log-probabilities become the matrix.
    pub fn reduction(&self) -> Reduction {
        self.reduction
    }

    pub(crate) fn kernel_weights(&self) -> Weights {
        Weights { rows: self.weights.over_responses, cols: self.weights.over_constitutions }
    }

    /// The loss of one C × C matrix; response r was sampled under constitution r.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`], [`Error::NotSquare`], and NaN, +∞ or (on the diagonal) −∞ with row and column.
    pub fn loss<F: Element>(&self, logps: ArrayView2<'_, F>) -> Result<F, Error> {
        self.loss_of(&Contrast::new(logps))
    }

    /// The loss of one C × C matrix and ∂loss/∂L.
    ///
    /// # Errors
    ///
    /// As [`Objective::loss`].
    pub fn loss_and_grad<F: Element>(&self, logps: ArrayView2<'_, F>) -> Result<LossAndGrad<F>, Error> {
        self.loss_and_grad_of(&Contrast::new(logps))
    }

    /// The loss of a C × R matrix whose response r was sampled under constitution `targets[r]`: m responses per
    /// constitution make C × mC.
    ///
    /// Both terms are means over the R responses. A constitution's other responses stay in its row's denominator, so
    /// with m of them the row term is at least ln m; the column term has its minimum at 0 as before.
    ///
    /// # Errors
    ///
    /// As [`Objective::loss`], and [`Error::TargetCount`], [`Error::TargetRange`].
    pub fn loss_with_targets<F: Element>(
        &self,
        logps: ArrayView2<'_, F>,
        targets: &[usize],
    ) -> Result<F, Error> {
        self.loss_of(&Contrast::with_targets(logps, targets))
    }

    /// The loss of a C × R matrix whose response r was sampled under constitution `targets[r]`, and ∂loss/∂L.
    ///
    /// # Errors
    ///
    /// As [`Objective::loss_with_targets`].
    pub fn loss_and_grad_with_targets<F: Element>(
        &self,
        logps: ArrayView2<'_, F>,
        targets: &[usize],
    ) -> Result<LossAndGrad<F>, Error> {
        self.loss_and_grad_of(&Contrast::with_targets(logps, targets))
    }

    /// The loss of one matrix, and ∂loss/∂L into `grad`, which has its shape. On an error, `grad` holds anything.
    ///
    /// # Errors
    ///
    /// As [`Objective::loss_with_targets`], and [`Error::Shape`].
    pub fn loss_and_grad_into<'a, F: Element>(
        &self,
        contrast: impl Into<Contrast<'a, F>>,
        grad: ArrayViewMut2<'_, F>,
        workspace: &mut Workspace<F>,
    ) -> Result<F, Error> {
        let contrast = contrast.into();
        contrast::checked(&contrast)?;
        same_shape("grad", grad.shape(), contrast.logps().shape())?;
        self.evaluate(&contrast, Some(grad), &mut workspace.slots(1)[0])
    }

    fn loss_of<F: Element>(&self, contrast: &Contrast<'_, F>) -> Result<F, Error> {
        contrast::checked(contrast)?;
        self.evaluate(contrast, None, &mut Slot::default())
    }

    fn loss_and_grad_of<F: Element>(&self, contrast: &Contrast<'_, F>) -> Result<LossAndGrad<F>, Error> {
        contrast::checked(contrast)?;
        let mut grad = Array2::from_elem(contrast.logps().dim(), F::default());
        let loss = self.evaluate(contrast, Some(grad.view_mut()), &mut Slot::default())?;
        Ok(LossAndGrad { loss, grad })
    }

    fn evaluate<F: Element>(
        &self,
        contrast: &Contrast<'_, F>,
        grad: Option<ArrayViewMut2<'_, F>>,
        slot: &mut Slot<F>,
    ) -> Result<F, Error> {
        let (weights, mut loss) = (self.kernel_weights(), [F::default()]);
        let sink = Losses { weights, losses: &mut loss };
        contrast::evaluate(contrast, weights, 1.0, grad, slot, sink)?;
        Ok(loss[0])
    }
}

/// Refuses an array whose shape is not the expected one.
pub(crate) fn same_shape(what: &'static str, got: &[usize], expected: &[usize]) -> Result<(), Error> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Shape { what, got: got.to_vec(), expected: expected.to_vec() })
}
