//! The unit of fairness: messages of one tenant and one host share a lane, and lanes take turns.

use std::sync::Arc;

use crate::domain::IngestRequest;

pub type Name = Arc<str>;

/// Tenant and host of a message. Messages with the same lane run in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lane {
    pub tenant: Option<Name>,
    pub host: Option<Name>,
}

impl Lane {
    /// `host`: the host of the request's picture, if it has one.
    pub fn of(request: &IngestRequest, host: Option<String>) -> Self {
        Self { tenant: request.tenant.as_ref().map(|tenant| tenant.as_str().into()), host: host.map(Name::from) }
    }
}
