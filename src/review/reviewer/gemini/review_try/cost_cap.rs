//! What a try has cost, may have cost and may still cost.
//!
//! Prices are `session.rs`'s business, the budget the caller's.
//! Invariant: all attempts together never can cost more than was reserved for the try, whatever
//! became of them; what is not known is never 0.

use super::TryState;
use crate::review::reviewer::gemini::answer::Usage;
use crate::review::reviewer::gemini::request::Form;

/// A cap may be doubled so often. Without any cap a model that runs in circles would cost a
/// hundred times the usual; the next try starts anew.
const MAX_LARGER_CAPS: u32 = 1;

impl TryState<'_> {
    /// An answer has come and says what it took.
    pub(super) fn pay(&mut self, usage: Usage, form: &Form) {
        let cost = self.session.cost(&usage);
        let call = &mut self.call;
        call.usd = call.usd.zip(cost).map(|(so_far, more)| so_far + more);
        call.tokens_in += usage.tokens_in.unwrap_or(0);
        call.tokens_out += usage.tokens_out;
        if usage.model_version.is_some() {
            call.model_version = usage.model_version;
        }
        self.count_at_most(cost.or_else(|| self.session.at_most(form)));
    }

    /// An attempt was lost for which the model may have worked.
    pub(super) fn may_have_paid(&mut self, form: &Form) {
        self.call.possibly_billed += 1;
        self.count_at_most(self.session.at_most(form));
    }

    fn count_at_most(&mut self, most: Option<f64>) {
        let so_far = self.call.usd_at_most;
        self.call.usd_at_most = so_far.zip(most).map(|(so_far, more)| so_far + more);
    }

    /// Another attempt must not break the reservation that was made for the try.
    pub(super) fn may_pay_again(&self, form: &Form) -> bool {
        match (self.call.usd_at_most, self.session.at_most(form), self.allowance) {
            (Some(so_far), Some(more), Some(allowance)) => so_far + more <= allowance,
            // Without a price there is no reservation.
            _ => true,
        }
    }

    /// Whether the same may be asked for with a cap of twice the size.
    pub(super) fn may_enlarge_cap(&self, form: &Form) -> bool {
        let larger =
            Form { max_output_tokens: form.max_output_tokens.saturating_mul(2), ..form.clone() };
        self.larger_caps < MAX_LARGER_CAPS && self.may_pay_again(&larger)
    }
}
