use std::sync::Arc;

use crate::domain::IngestRequest;

pub type Name = Arc<str>;

/// Whose a message is: those of the same tenant and host run in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lane {
    pub tenant: Option<Name>,
    pub host: Option<Name>,
}

impl Lane {
    /// `host`: whose picture is asked for, if anybody is.
    pub fn of(request: &IngestRequest, host: Option<String>) -> Self {
        Self { tenant: request.tenant.as_ref().map(|tenant| tenant.as_str().into()), host: host.map(Name::from) }
    }
}
