//! What a server refuses of a request's parameters, and what is done about it for the rest of a run.

use std::sync::{Mutex, PoisonError};

use sami_policy::{SamplingParams, SamplingParamsBuilder};
use serde_json::{Map, Value};

use crate::RemoteError;
use crate::complaint::Complaint;
use crate::request::{EXTENSIONS, PARAMETERS, Request};

/// A change to every further request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The server does not take it.
    Drop(&'static str),
    /// The server says the same with another value.
    Replace(&'static str, i64),
    /// The server has another name for it.
    Rename(&'static str, &'static str),
}

impl Change {
    pub(crate) fn apply(&self, body: &mut Map<String, Value>) {
        match self {
            Self::Drop(name) => {
                body.remove(*name);
            }
            Self::Replace(name, value) => {
                if let Some(place) = body.get_mut(*name) {
                    *place = (*value).into();
                }
            }
            Self::Rename(from, to) => {
                if let Some(value) = body.remove(*from) {
                    body.insert((*to).to_owned(), value);
                }
            }
        }
    }
}

/// The changes of a run; shared by the clones of an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Changes(Mutex<Vec<Change>>);

impl Changes {
    pub(crate) fn so_far(&self) -> Vec<Change> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Parameters whose value is the server's own, in the order in which it refused ours.
    pub(crate) fn dropped(&self) -> Vec<&'static str> {
        let name = |change: Change| match change {
            Change::Drop(name) => Some(name),
            Change::Replace(..) | Change::Rename(..) => None,
        };
        self.so_far().into_iter().filter_map(name).collect()
    }

    /// Adds what the complaint asks for. Whether there is something to try again with: false where it is about no
    /// parameter of this body, or about one that a request cannot do without.
    ///
    /// # Errors
    ///
    /// [`RemoteError::Parameter`] for one that may not be left to the server.
    pub(crate) fn add(
        &self,
        request: &Request<'_>,
        body: &Map<String, Value>,
        url: &str,
        complaint: &Complaint,
        shown: &str,
    ) -> Result<bool, RemoteError> {
        let sent: Vec<&'static str> =
            PARAMETERS.into_iter().filter(|name| body.contains_key(*name)).collect();
        let mut named = complaint.parameters(&sent);
        if named.len() > 1 && complaint.says_together() {
            // Each is fine alone. The last in the list changes least when it is left out.
            named = named.pop().into_iter().collect();
        }
        let mut changes = Vec::new();
        for name in named {
            let change = match name {
                "max_tokens" if complaint.mentions("max_completion_tokens") => {
                    Change::Rename("max_tokens", "max_completion_tokens")
                }
                "max_completion_tokens" => Change::Rename("max_completion_tokens", "max_tokens"),
                "max_tokens" => continue,
                // Stop strings are looked for here too; a server's seed and its token ids are help, not the distribution.
                "stop" | "seed" | "return_token_ids" => Change::Drop(name),
                // "All tokens" is 0 to some and −1 to others.
                "top_k" if self.may_replace(name, request, complaint) => {
                    let zero = body.get(name).and_then(Value::as_i64) == Some(0);
                    Change::Replace(name, if zero { -1 } else { 0 })
                }
                _ if may_drop(name, request, complaint) => Change::Drop(name),
                _ => {
                    let value = body.get(name).map(ToString::to_string).unwrap_or_default();
                    let (url, message) = (url.to_owned(), shown.to_owned());
                    return Err(RemoteError::Parameter { url, parameter: name, value, message });
                }
            };
            changes.push(change);
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // To and fro without an end.
        changes.retain(|change| match change {
            Change::Rename(from, to) => !known.contains(&Change::Rename(to, from)),
            Change::Drop(_) | Change::Replace(..) => true,
        });
        for change in &changes {
            if known.contains(change) {
                continue;
            }
            match change {
                Change::Drop(name) => tracing::warn!(
                    "{url} refuses the parameter {name}; it is left out for the rest of this run, and the server's own \
                     default holds: {shown}"
                ),
                Change::Replace(..) => {}
                Change::Rename(from, to) => {
                    tracing::warn!("{url} calls {from} {to}; so does this run from here on");
                }
            }
            known.push(change.clone());
        }
        Ok(!changes.is_empty())
    }

    /// Whether a value that means nothing has another spelling to try, once.
    fn may_replace(&self, name: &str, request: &Request<'_>, complaint: &Complaint) -> bool {
        let tried = |change: &Change| matches!(change, Change::Replace(known, _) if *known == name);
        request.params.top_k.is_none() && !complaint.says_unknown() && !self.so_far().iter().any(tried)
    }
}

/// Whether a parameter that shapes the distribution may be left to the server.
fn may_drop(name: &str, request: &Request<'_>, complaint: &Complaint) -> bool {
    let usual = SamplingParams::builder();
    let SamplingParamsBuilder { temperature, top_p, top_k, .. } = &**request.params;
    let chosen = match name {
        "temperature" => *temperature != usual.temperature,
        "top_p" => *top_p != usual.top_p,
        "top_k" => *top_k != usual.top_k,
        _ => false,
    };
    // A server that does not know the parameter does nothing of the kind.
    let nothing_lost = EXTENSIONS.contains(&name) && complaint.says_unknown();
    !chosen && (request.server_defaults || nothing_lost)
}
