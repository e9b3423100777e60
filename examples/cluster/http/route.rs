//! One entry of the route table.
//!
//! The table is the only way to serve anything: what is served, who may call it, how it is routed,
//! measured and documented are read off the same entry, so that none can be forgotten.

use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodFilter, MethodRouter, on};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Required, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::Context;
use super::guide::First;
use super::problem::Code;
use super::routing::Conduct;

/// What a client must be to call a route, once authentication is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody, without a token.
    Public,
    /// Whoever may look.
    Reader,
    /// Whoever may use locks, queues and the cache.
    Writer,
    /// Whoever may do all.
    Admin,
}

/// A schema with the name under which it is kept.
pub(crate) type NamedSchema = (String, RefOr<Schema>);

/// What a body is, for the document.
#[derive(Clone)]
pub(crate) struct BodyDescription {
    /// Its media type.
    pub(crate) media_type: &'static str,
    /// Its shape.
    pub(crate) schema: RefOr<Schema>,
}

/// One successful answer, for the document.
#[derive(Clone)]
pub(crate) struct AnswerDescription {
    pub(crate) status: StatusCode,
    pub(crate) description: &'static str,
    pub(crate) body: Option<BodyDescription>,
    /// Names of the headers that it carries, and what they say.
    pub(crate) headers: Vec<(&'static str, &'static str)>,
}

/// A method of a path, who may call it, what does it and what is to be said about it.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) conduct: Conduct,
    /// Whether the fencing headers are obeyed.
    pub(crate) is_fenced: bool,
    /// Whether it is answered however much there is to do.
    pub(crate) is_vital: bool,
    /// Whether it needs a token even where others do not.
    pub(crate) is_guarded: bool,
    /// Which node it is likely to be for.
    pub(crate) first: First,
    /// Whether its body names what it is done to, in place of its path.
    pub(crate) is_batch: bool,
    pub(crate) handler: MethodRouter<Context>,
    pub(crate) operation_id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) request: Option<BodyDescription>,
    pub(crate) answers: Vec<AnswerDescription>,
    pub(crate) refusals: Vec<Code>,
    pub(crate) schemas: Vec<NamedSchema>,
}

impl Route {
    /// A route that changes nothing.
    pub(crate) fn get<H, T>(path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Context>,
        T: 'static,
    {
        let handler = on(MethodFilter::GET, handler);
        Self::new(Method::GET, path, access, Conduct::Reads, handler)
    }

    /// A route that acts.
    pub(crate) fn post<H, T>(path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Context>,
        T: 'static,
    {
        let handler = on(MethodFilter::POST, handler);
        Self::new(Method::POST, path, access, Conduct::Acts, handler)
    }

    /// A route that sets what the path names.
    pub(crate) fn put<H, T>(path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Context>,
        T: 'static,
    {
        let handler = on(MethodFilter::PUT, handler);
        Self::new(Method::PUT, path, access, Conduct::Acts, handler)
    }

    /// A route that removes what the path names.
    pub(crate) fn delete<H, T>(path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Context>,
        T: 'static,
    {
        let handler = on(MethodFilter::DELETE, handler);
        Self::new(Method::DELETE, path, access, Conduct::Acts, handler)
    }

    fn new(
        method: Method,
        path: &'static str,
        access: Access,
        conduct: Conduct,
        handler: MethodRouter<Context>,
    ) -> Self {
        Self {
            method,
            path,
            access,
            conduct,
            is_fenced: false,
            is_vital: access == Access::Public,
            is_guarded: false,
            first: First::Here,
            is_batch: false,
            handler,
            operation_id: "",
            summary: "",
            parameters: Vec::new(),
            request: None,
            answers: Vec::new(),
            refusals: Vec::new(),
            schemas: Vec::new(),
        }
    }

    /// It is for whoever leads the locks.
    pub(crate) fn of_locks(self) -> Self {
        Self { first: First::LeaderOfLocks, ..self }
    }

    /// It is for whoever serves the topic that its path names.
    pub(crate) fn of_topic(self) -> Self {
        Self { first: First::ServerOfTopic, ..self }
    }

    /// It is answered however much there is to do, since not to do it makes more to do.
    pub(crate) fn vital(mut self) -> Self {
        self.is_vital = true;
        self
    }

    /// It needs a token even where others do not.
    pub(crate) fn guarded(mut self) -> Self {
        self.is_guarded = true;
        self
    }

    /// Its body names what it is done to: `locks`, each with its `lock`.
    pub(crate) fn batch(mut self) -> Self {
        self.is_batch = true;
        self
    }

    /// How it conducts itself, where the method does not say.
    pub(crate) fn conduct(mut self, conduct: Conduct) -> Self {
        self.conduct = conduct;
        self
    }

    /// Obeys the fencing headers.
    pub(crate) fn fenced(mut self) -> Self {
        self.is_fenced = true;
        self.header("x-dss-lock", "Together with the token: do it only under this lock.")
            .header("x-dss-fencing-token", "The token that must be the newest of that lock.")
            .refuses(&[Code::StaleToken])
    }

    /// What it is called in generated clients, and what it does.
    pub(crate) fn named(mut self, operation_id: &'static str, summary: &'static str) -> Self {
        self.operation_id = operation_id;
        self.summary = summary;
        self
    }

    /// Takes a body of JSON.
    pub(crate) fn takes<T: ToSchema>(mut self) -> Self {
        let schema = self.reference::<T>();
        self.request = Some(BodyDescription { media_type: "application/json", schema });
        self
    }

    /// Takes a body of any bytes.
    pub(crate) fn takes_bytes(mut self) -> Self {
        self.request = Some(bytes());
        self
    }

    /// Answers with a body of JSON.
    pub(crate) fn answers<T: ToSchema>(
        mut self,
        status: StatusCode,
        description: &'static str,
    ) -> Self {
        let schema = self.reference::<T>();
        let body = BodyDescription { media_type: "application/json", schema };
        self.answer(status, description, Some(body))
    }

    /// Answers with a body of any bytes.
    pub(crate) fn answers_bytes(self, description: &'static str) -> Self {
        self.answer(StatusCode::OK, description, Some(bytes()))
    }

    /// Answers with a body of text.
    pub(crate) fn answers_text(self, description: &'static str) -> Self {
        let body = BodyDescription { media_type: "text/plain", schema: String::schema() };
        self.answer(StatusCode::OK, description, Some(body))
    }

    /// Answers with text of this media type.
    pub(crate) fn answers_as(self, media_type: &'static str, description: &'static str) -> Self {
        let body = BodyDescription { media_type, schema: String::schema() };
        self.answer(StatusCode::OK, description, Some(body))
    }

    /// Can be done by a node that the client names.
    pub(crate) fn directed(self) -> Self {
        self.header("x-dss-at", "The id of the node that is to do it, in place of this one.")
    }

    /// Answers 204, without a body.
    pub(crate) fn answers_nothing(self, description: &'static str) -> Self {
        self.answer(StatusCode::NO_CONTENT, description, None)
    }

    /// The answer described last carries a header.
    pub(crate) fn with_header(mut self, name: &'static str, description: &'static str) -> Self {
        let answer = self.answers.last_mut().expect("headers are described after their answer");
        answer.headers.push((name, description));
        self
    }

    /// Refuses with these codes, beside those that any route may refuse with.
    pub(crate) fn refuses(mut self, codes: &[Code]) -> Self {
        self.refusals.extend_from_slice(codes);
        self
    }

    /// Takes a parameter behind the `?`.
    pub(crate) fn query(self, name: &str, description: &str, schema_type: Type) -> Self {
        self.parameter(ParameterIn::Query, name, description, schema_type)
    }

    /// Takes a header.
    pub(crate) fn header(self, name: &str, description: &str) -> Self {
        self.parameter(ParameterIn::Header, name, description, Type::String)
    }

    fn parameter(
        mut self,
        place: ParameterIn,
        name: &str,
        description: &str,
        schema_type: Type,
    ) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(ObjectBuilder::new().schema_type(schema_type)))
            .build();
        self.parameters.push(parameter);
        self
    }

    fn answer(
        mut self,
        status: StatusCode,
        description: &'static str,
        body: Option<BodyDescription>,
    ) -> Self {
        self.answers.push(AnswerDescription { status, description, body, headers: Vec::new() });
        self
    }

    /// Keeps the schema of `T` and all that it uses, and refers to it.
    fn reference<T: ToSchema>(&mut self) -> RefOr<Schema> {
        let name = T::name().into_owned();
        let reference = utoipa::openapi::Ref::from_schema_name(&name);
        self.schemas.push((name, T::schema()));
        T::schemas(&mut self.schemas);
        reference.into()
    }
}

fn bytes() -> BodyDescription {
    let schema = ObjectBuilder::new().schema_type(Type::String).build();
    BodyDescription { media_type: "application/octet-stream", schema: schema.into() }
}
