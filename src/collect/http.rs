//! The ledger over HTTP: `/metrics`, `/healthz`, `/readyz`, and JSON at `/exporters`, `/templates`, `/connections` and
//! `/ledger`.
//!
//! One thread serves at most sixteen connections at once, one request each, with a bound on their time and on the size of
//! a request; a few others make the answers. A receiving thread only leaves a copy of its counters at its next tick.
//!
//! Whoever connects and asks nothing makes way for who comes later, and long answers are made piece by piece, a few of them
//! at once: `/healthz` and `/readyz` are answered whatever else goes on.

mod answer;

use super::board::{ConnectionLine, TemplateLine};
use super::ledger::Ledger;
use super::metrics::Named;
use super::shared::TELLING;
use super::watch::Watch;
use crate::elements::{Registry, v9_scope_name};
use crate::net;
use crate::template::{Kind, VARIABLE};
use answer::{Answer, Pieces};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::AbortHandle;

/// Connections at once.
const CONNECTIONS: usize = 16;
/// How long a request may take to arrive, and a connection to be done with.
const TO_ASK: Duration = Duration::from_secs(5);
const TO_END: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const REQUEST: usize = 16 << 10;
/// Answers about all exporters that are on their way at once, and those of them that are large.
const LONG: usize = 4;
const LONGEST: usize = 1;
/// Bytes that a large answer holds, at least.
const LARGE: usize = 1 << 20;
/// How long a long answer waits for others.
const TO_WAIT: Duration = Duration::from_secs(5);
/// Threads that make answers: there is one for what is short, always.
const ANSWERING: usize = LONG + LONGEST + 1;

/// What there is, for whoever asks for something else.
const PAGES: &str = "there are /metrics, /healthz, /readyz, /exporters, /templates, /connections and /ledger\n";

/// An address that is bound, before anything is answered.
pub struct Http {
    listener: TcpListener,
    address: SocketAddr,
}

/// A server at work, until it is dropped.
pub struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Http {
    /// Takes the address; port 0 takes a free one.
    ///
    /// # Errors
    /// An address that cannot be had.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers for a running collector. The metrics name so many exporters; `registry` names the fields of templates.
    ///
    /// # Errors
    /// A system without room for threads.
    pub fn serve(self, watch: Watch, named: usize, registry: Arc<Registry>) -> io::Result<Serving> {
        let site = Arc::new(Site {
            watch,
            named: Mutex::new(Named::new(named)),
            registry,
            long: Arc::new(Semaphore::new(LONG)),
            longest: Arc::new(Semaphore::new(LONGEST)),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(ANSWERING)
            .thread_name("http-answer")
            .on_thread_start(|| net::be_nice(TELLING))
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let listener = self.listener;
        let run = move || {
            net::be_nice(TELLING);
            runtime.block_on(async move {
                tokio::select! {
                    _ = listen(listener, site) => {}
                    _ = stopped => {}
                }
            });
            // What is being answered is not waited for.
            runtime.shutdown_background();
        };
        let thread = Builder::new().name("http".into()).spawn(run)?;
        Ok(Serving { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes connections for ever.
async fn listen(listener: TcpListener, site: Arc<Site>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    // The oldest first.
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, mostly: it passes.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        open.retain(|task| !task.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let site = site.clone();
        let serving = tokio::spawn(async move {
            let answers = service_fn(move |request| answer(request, site.clone()));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(TO_ASK)
                .keep_alive(false)
                .max_buf_size(REQUEST)
                .serve_connection(TokioIo::new(stream), answers);
            let _ = tokio::time::timeout(TO_END, connection).await;
        });
        open.push_back(serving.abort_handle());
    }
}

async fn answer(request: Request<Incoming>, site: Arc<Site>) -> Result<Response<Answer>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD\n".into());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(refusal);
    }
    let path = request.uri().path().to_owned();
    let mut permits = Vec::new();
    let end = tokio::time::Instant::now() + TO_WAIT;
    for queue in site.queues(&path) {
        match tokio::time::timeout_at(end, queue.acquire_owned()).await {
            Ok(Ok(permit)) => permits.push(permit),
            _ => {
                let text = "others are being answered, who read slowly\n".into();
                let mut busy = page(StatusCode::SERVICE_UNAVAILABLE, "text/plain", text);
                busy.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
                return Ok(busy);
            }
        }
    }
    let made = tokio::task::spawn_blocking(move || site.page(&path, permits)).await;
    Ok(made.unwrap_or_else(|_| page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "no answer\n".into())))
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Answer> {
    respond(status, kind, Answer::of(text))
}

fn respond(status: StatusCode, kind: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What the answers are made from.
struct Site {
    watch: Watch,
    named: Mutex<Named>,
    registry: Arc<Registry>,
    long: Arc<Semaphore>,
    longest: Arc<Semaphore>,
}

impl Site {
    /// Where a long answer waits for its turns: first one that may be large, as others need not wait for that one.
    fn queues(&self, path: &str) -> Vec<Arc<Semaphore>> {
        match path {
            "/templates" => vec![self.longest.clone()],
            "/exporters" | "/ledger" => vec![self.longest.clone(), self.long.clone()],
            "/metrics" | "/connections" => vec![self.long.clone()],
            _ => Vec::new(),
        }
    }

    /// A page; the permits are held until it is sent, that for a large one only where it is.
    fn page(self: &Arc<Self>, path: &str, mut permits: Vec<OwnedSemaphorePermit>) -> Response<Answer> {
        let mut response = self.make(path);
        if permits.len() > 1 && response.body().memory() < LARGE {
            drop(permits.remove(0));
        }
        response.body_mut().hold(permits);
        response
    }

    fn make(self: &Arc<Self>, path: &str) -> Response<Answer> {
        let json = |value: Value| page(StatusCode::OK, "application/json", value.to_string() + "\n");
        match path {
            "/metrics" => {
                let text = self.watch.look(|ledger| super::board::lock(&self.named).text(ledger));
                page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            "/healthz" if self.watch.has_failed() => {
                page(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "a thread gave up\n".into())
            }
            "/healthz" => page(StatusCode::OK, "text/plain", "ok\n".into()),
            "/readyz" => match self.watch.unready() {
                Some(cause) => page(StatusCode::SERVICE_UNAVAILABLE, "text/plain", cause + "\n"),
                None => page(StatusCode::OK, "text/plain", "ready\n".into()),
            },
            "/exporters" => {
                let pieces = self.watch.look(|ledger| with_exporters(&json!({}), ledger));
                respond(StatusCode::OK, "application/json", Answer::made(pieces))
            }
            "/templates" => {
                let (lines, more) = self.watch.templates();
                let site = self.clone();
                let items = lines.into_iter().map(move |line| site.template(&line).to_string());
                let end = format!("],\"more\":{more}}}\n");
                let body = Answer::list("{\"templates\":[".into(), Box::new(items), end);
                respond(StatusCode::OK, "application/json", body)
            }
            "/connections" => {
                let connections = self.watch.connections();
                json(json!({ "connections": connections.iter().map(ConnectionLine::json).collect::<Value>() }))
            }
            "/ledger" => {
                let pieces = self.watch.look(|ledger| with_exporters(&ledger.whole_json(), ledger));
                respond(StatusCode::OK, "application/json", Answer::made(pieces))
            }
            _ => page(StatusCode::NOT_FOUND, "text/plain", PAGES.into()),
        }
    }

    fn template(&self, line: &TemplateLine) -> Value {
        let t = &line.template;
        let fields = t.fields.iter().enumerate().map(|(i, spec)| {
            let is_scope = i < usize::from(t.scope_count);
            let scope = (t.version == 9 && is_scope).then(|| v9_scope_name(spec.id)).flatten();
            let name = match scope {
                Some(name) => name.to_owned(),
                None => self.registry.key(t.version, spec.pen, spec.id),
            };
            let length = if spec.len == VARIABLE { json!("variable") } else { json!(spec.len) };
            json!({ "name": name, "pen": spec.pen, "id": spec.id, "length": length, "scope": is_scope })
        });
        let plan = line.plan.as_ref().map(|plan| {
            let columns = plan.layout.columns().map(|c| Value::from(&*c.name));
            json!({
                "columns": columns.collect::<Value>(),
                "records": plan.records,
                "last_used": plan.last_used.0 as f64 / 1e6,
            })
        });
        json!({
            "exporter": line.exporter.to_string(),
            "version": t.version,
            "domain": line.domain_id,
            "id": t.id,
            "kind": if t.kind == Kind::Options { "options" } else { "data" },
            "record_length": t.record_len(),
            "shortest_record": t.min_len(),
            "last_seen": line.last_seen.0 as f64 / 1e6,
            "definitions": line.definitions,
            "ports": line.ports,
            "fields": fields.collect::<Value>(),
            "plan": plan,
        })
    }
}

/// An object with the exporters of a ledger added to it: each is written before the next is looked at.
fn with_exporters(object: &Value, ledger: &Ledger) -> Pieces {
    let text = object.to_string();
    let begin = text.strip_suffix('}').unwrap_or_default();
    let mut pieces = Pieces::default();
    let comma = if begin.len() > 1 { "," } else { "" };
    let _ = write!(pieces, "{begin}{comma}\"exporters\":[");
    for (i, exporter) in ledger.exporters.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let _ = write!(pieces, "{comma}{}", exporter.json(ledger.has_sink));
    }
    let _ = pieces.write_str("]}\n");
    pieces
}

/// Bytes of an answer that is taken.
const ANSWER: usize = 256 << 20;

/// Asks a server for a page: `url` is `http://HOST:PORT`, `path` begins with a slash. The answer's status and its text.
///
/// # Errors
/// A URL that is none, nobody there, no answer within 30 s, or none that can be read.
pub fn fetch(url: &str, path: &str) -> io::Result<(u16, String)> {
    let uri: hyper::Uri = url.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no URL"))?;
    let (host, port) = (uri.host().unwrap_or("127.0.0.1"), uri.port_u16().unwrap_or(80));
    let authority = format!("{host}:{port}");
    let request = Request::builder()
        .uri(path)
        .header(hyper::header::HOST, &authority)
        .body(Full::<Bytes>::default())
        .map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asking = async move {
        let stream = tokio::net::TcpStream::connect(authority).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let body = http_body_util::Limited::new(response.into_body(), ANSWER).collect().await;
        let bytes = body.map_err(io::Error::other)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    };
    runtime.block_on(async {
        let end = tokio::time::timeout(TO_END, asking).await;
        end.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 30 s")))
    })
}
