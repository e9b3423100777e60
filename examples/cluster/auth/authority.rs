//! Says who makes a request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderMap;
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::credential::Credential;
use super::failures::Failures;
use super::principal::Principal;
use super::validity::{Validity, now_ms};
use crate::config::{AuthConfig, Bootstrap, Limits};
use crate::control_group::{ControlGroup, Role, SecretHash};
use crate::origin::{Origin, network};

/// Why it cannot be said who makes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It carries no token.
    Missing,
    /// What it carries is worth nothing: never was, or is not any more. Which of these is not told.
    Invalid,
    /// It is one of too many.
    TooMany,
    /// This node does not know yet which tokens there are.
    NotReady,
}

/// Says who makes a request, by its token.
pub(crate) struct Authority {
    control: ControlGroup,
    /// Whether the control group's state is that of the cluster, not of the node's last run.
    caught_up: Arc<AtomicBool>,
    is_enabled: bool,
    bootstrap: Option<Bootstrap>,
    failures: Mutex<Failures>,
}

impl Authority {
    pub(crate) fn new(
        config: &AuthConfig,
        limits: &Limits,
        control: ControlGroup,
        caught_up: Arc<AtomicBool>,
    ) -> Self {
        let [each, all] = [limits.auth_failures_per_address_max, limits.auth_failures_max]
            .map(|max| u32::try_from(max).unwrap_or(u32::MAX));
        Self {
            control,
            caught_up,
            is_enabled: config.enabled,
            bootstrap: config.bootstrap.clone(),
            failures: Mutex::new(Failures::new(each, all, Instant::now())),
        }
    }

    /// Whether requests need tokens.
    pub(crate) fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// When the token of `principal` ends; nothing where it does not have one that can.
    pub(crate) fn validity(&self, principal: &Principal) -> Option<Validity> {
        let Principal::Owner { id, .. } = principal else { return None };
        let can_end = self.bootstrap.as_ref().is_none_or(|bootstrap| bootstrap.id != *id);
        can_end.then(|| Validity::new(id.clone(), self.control.follow()))
    }

    /// Whoever makes the request with these headers.
    ///
    /// # Errors
    ///
    /// Why that cannot be said.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        origin: Origin,
    ) -> Result<Principal, Denied> {
        let denied = match Credential::of(headers) {
            Some(credential) => match self.owner(&credential) {
                Some(owner) => return Ok(owner),
                None if !self.caught_up.load(Ordering::Acquire) => return Err(Denied::NotReady),
                None => Denied::Invalid,
            },
            None if headers.contains_key(axum::http::header::AUTHORIZATION) => Denied::Invalid,
            None => Denied::Missing,
        };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told = failures.count(network(origin.0.ip()), Instant::now());
        Err(if is_told { denied } else { Denied::TooMany })
    }

    /// The owner of a token that is worth something. The work is the same whether there is such an
    /// id or not, and the time that it takes tells nothing of the hash.
    fn owner(&self, credential: &Credential) -> Option<Principal> {
        /// Compared with where there is no such id: the hash of nothing that anybody knows.
        const NOBODY: SecretHash = SecretHash([0x5c; 32]);
        let hash = credential.hash();
        let id = credential.id();
        let is_caught_up = self.caught_up.load(Ordering::Acquire);
        let state = self.control.state();
        let bootstrap = self.bootstrap.as_ref().filter(|bootstrap| bootstrap.id == id);
        let token = state.tokens.get(id).filter(|_| bootstrap.is_none());
        let expected = match (bootstrap, token) {
            (Some(bootstrap), _) => bootstrap.secret,
            (None, Some(token)) => token.secret,
            (None, None) => NOBODY,
        };
        let is_same = bool::from(hash.0.ct_eq(&expected.0));
        let now = now_ms();
        match (is_same, bootstrap, token) {
            (true, Some(_), _) => Some(Principal::Owner {
                id: id.to_owned(),
                name: "bootstrap".to_owned(),
                role: Role::Admin,
            }),
            // A state of the node's last run may hold tokens that were revoked since.
            (true, None, Some(token)) if is_caught_up && token.is_valid(now) => {
                Some(Principal::Owner {
                    id: id.to_owned(),
                    name: token.name.clone(),
                    role: token.role,
                })
            }
            _ => None,
        }
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Authority")
            .field("is_enabled", &self.is_enabled)
            .finish_non_exhaustive()
    }
}
