//! The OpenAPI 3.1 document, made from the route table.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{
    OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, HeaderBuilder, HttpMethod, InfoBuilder, OpenApi,
    OpenApiBuilder, Ref, RefOr, Required, Response, ResponseBuilder, ResponsesBuilder, Schema,
};
use utoipa::{PartialSchema, ToSchema};

use super::extract::NAME_BYTES_MAX;
use super::problem::{Code, PROBLEM_JSON, ProblemBody};
use super::route::{Access, AnswerDescription, Route};

/// What every answer carries.
const NODE_HEADER: (&str, &str) = ("x-dss-node", "The id of the node that answered.");

/// What the way to say who one is, is called.
const BEARER: &str = "bearer";

/// What any request can be refused with, wherever it goes.
const COMMON_REFUSALS: [Code; 8] = [
    Code::InvalidRequest,
    Code::Unauthenticated,
    Code::Forbidden,
    Code::PayloadTooLarge,
    Code::Overloaded,
    Code::NoLeader,
    Code::Unavailable,
    Code::OutcomeUnknown,
];

/// The document that describes exactly `routes`.
pub(crate) fn document(routes: &[Route]) -> OpenApi {
    let mut components = ComponentsBuilder::new().schema_from::<ProblemBody>();
    for code in Code::ALL {
        components = components.response(code.as_str(), refusal(code));
    }
    let mut paths = PathsBuilder::new();
    for route in routes {
        components = components.schemas_from_iter(route.schemas.clone());
        paths = paths.path(route.path, PathItem::new(http_method(&route.method), operation(route)));
    }
    let info = InfoBuilder::new()
        .title("dss cluster")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Locks, queues and a coherent cache. Any node serves any request; errors are \
             problem documents (RFC 9457) whose `code` says what happened.",
        ))
        .build();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token, where authentication is on: `dss_<id>_<secret>`."))
        .build();
    components = components.security_scheme(BEARER, SecurityScheme::Http(bearer));
    OpenApiBuilder::new()
        .info(info)
        .paths(paths.build())
        .components(Some(components.build()))
        .build()
}

fn http_method(method: &Method) -> HttpMethod {
    match method.as_str() {
        "GET" => HttpMethod::Get,
        "PUT" => HttpMethod::Put,
        "POST" => HttpMethod::Post,
        "DELETE" => HttpMethod::Delete,
        other => unreachable!("a route has one of four methods, not {other}"),
    }
}

fn operation(route: &Route) -> OperationBuilder {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(route.operation_id))
        .summary(Some(route.summary))
        .description(Some(who_may_call(route)))
        .tag(tag(route.path))
        .securities(Some(security(route)))
        .extensions(Some(Extensions::builder().add("x-dss-access", access(route.access)).build()))
        .responses(responses(route));
    let parameters: Vec<_> =
        path_parameters(route.path).chain(route.parameters.iter().cloned()).collect();
    if !parameters.is_empty() {
        operation = operation.parameters(Some(parameters));
    }
    if let Some(body) = &route.request {
        let content = ContentBuilder::new().schema(Some(body.schema.clone())).build();
        let request = RequestBodyBuilder::new()
            .content(body.media_type, content)
            .required(Some(required(route)))
            .build();
        operation = operation.request_body(Some(request));
    }
    operation
}

/// Whether a body must be there: an empty one counts as `{}`, which does where no member is needed.
fn required(route: &Route) -> Required {
    let body = route.request.as_ref().map(|body| &body.schema);
    let has_optional_members = route.schemas.iter().any(|(name, schema)| {
        let reference: RefOr<Schema> = Ref::from_schema_name(name).into();
        let optional =
            matches!(schema, RefOr::T(Schema::Object(object)) if object.required.is_empty());
        optional && body == Some(&reference)
    });
    if has_optional_members { Required::False } else { Required::True }
}

/// A token where it is needed. What needs one only where authentication is on says that it can do
/// without.
fn security(route: &Route) -> Vec<SecurityRequirement> {
    let none = SecurityRequirement::default;
    let token = || SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, []);
    match (route.access, route.is_guarded) {
        (Access::Public, _) => vec![none()],
        (_, true) => vec![token()],
        (_, false) => vec![none(), token()],
    }
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Public => "public",
        Access::Reader => "reader",
        Access::Writer => "writer",
        Access::Admin => "admin",
    }
}

fn who_may_call(route: &Route) -> &'static str {
    match route.access {
        _ if route.is_guarded => "Needs the role `admin`, be authentication on or not.",
        Access::Public => "Needs no authentication.",
        Access::Reader => "Needs the role `reader` where authentication is on.",
        Access::Writer => "Needs the role `writer` where authentication is on.",
        Access::Admin => "Needs the role `admin` where authentication is on.",
    }
}

/// `/v1/locks/{name}` belongs to `locks`; what is not below `/v1` to `operations`.
fn tag(path: &str) -> &str {
    path.strip_prefix("/v1/").and_then(|rest| rest.split('/').next()).unwrap_or("operations")
}

fn path_parameters(path: &str) -> impl Iterator<Item = Parameter> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).map(|name| {
        let schema = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(NAME_BYTES_MAX));
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("Percent-encoded UTF-8 without control characters."))
            .schema(Some(schema))
            .build()
    })
}

/// One response for each status: several codes of one status share it.
fn responses(route: &Route) -> ResponsesBuilder {
    let mut responses = ResponsesBuilder::new();
    for answer in &route.answers {
        responses = responses.response(answer.status.as_str(), success(answer));
    }
    let mut refusals: BTreeSet<Code> = route.refusals.iter().copied().collect();
    if route.access != Access::Public {
        refusals.extend(COMMON_REFUSALS);
    }
    if route.request.as_ref().is_some_and(|body| body.media_type == "application/json") {
        refusals.insert(Code::UnsupportedMediaType);
    }
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in refusals {
        by_status.entry(code.status().as_u16()).or_default().push(code);
    }
    for (status, codes) in by_status {
        let response: RefOr<Response> = match codes[..] {
            [code] => Ref::from_response_name(code.as_str()).into(),
            _ => one_of(&codes).into(),
        };
        responses = responses.response(status.to_string(), response);
    }
    responses
}

fn success(answer: &AnswerDescription) -> Response {
    let mut response = ResponseBuilder::new().description(answer.description);
    if let Some(body) = &answer.body {
        let content = ContentBuilder::new().schema(Some(body.schema.clone())).build();
        response = response.content(body.media_type, content);
    }
    for (name, description) in answer.headers.iter().chain([&NODE_HEADER]) {
        response = response.header(*name, text_header(description));
    }
    response.build()
}

fn refusal(code: Code) -> Response {
    problem(format!("`{}`: {}.", code.as_str(), code.title()), code)
}

fn one_of(codes: &[Code]) -> Response {
    let lines: Vec<_> =
        codes.iter().map(|code| format!("`{}`: {}.", code.as_str(), code.title())).collect();
    problem(lines.join(" "), codes[0])
}

fn problem(description: String, code: Code) -> Response {
    let schema = Ref::from_schema_name(ProblemBody::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let mut response = ResponseBuilder::new()
        .description(description)
        .content(PROBLEM_JSON, content)
        .header(NODE_HEADER.0, text_header(NODE_HEADER.1));
    if code == Code::Unauthenticated {
        let challenge = "How to say who one is (RFC 6750).";
        response = response.header("www-authenticate", text_header(challenge));
    }
    if matches!(code.status().as_u16(), 429 | 503) {
        response = response.header("retry-after", text_header("Seconds to wait before a retry."));
    }
    response.build()
}

fn text_header(description: &str) -> utoipa::openapi::header::Header {
    HeaderBuilder::new().schema(String::schema()).description(Some(description)).build()
}
