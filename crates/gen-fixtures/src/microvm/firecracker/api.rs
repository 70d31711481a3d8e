//! Firecracker's API: HTTP/1.1 over a UNIX socket, one request, one answer (firecracker.yaml of its sources).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// How long Firecracker may take for what it carries out at once.
pub const ANSWER: Duration = Duration::from_secs(60);

/// How long a microVM may take to be written to memory or read from it.
pub const MOVED: Duration = Duration::from_secs(300);

/// More than any answer of the API is long.
const MOST: usize = 1 << 20;

/// How long a line of an answer's head may be.
const LINE: u64 = 8 << 10;

/// A request: what is asked of which resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `PUT` or `PATCH`.
    pub method: &'static str,
    /// The resource.
    pub path: String,
    /// What is said; none with `GET`.
    pub body: Option<Value>,
    /// How long the answer may take.
    pub within: Duration,
}

/// Why a request failed. Each tells which.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Firecracker does not do it.
    #[error("{method} {path}: status {status}: {fault}")]
    Refused {
        /// The request's method.
        method: &'static str,
        /// Its resource.
        path: String,
        /// HTTP status.
        status: u16,
        /// `fault_message` of the answer.
        fault: String,
    },
    /// The answer is none.
    #[error("{method} {path}: the answer is not readable: {reason}")]
    Unreadable {
        /// The request's method.
        method: &'static str,
        /// Its resource.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No answer came, or the request did not go.
    #[error("{method} {path}: {source}")]
    Lost {
        /// The request's method.
        method: &'static str,
        /// Its resource.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Request {
    /// What is at `path`?
    pub fn get(path: &str) -> Self {
        Self { method: "GET", path: path.into(), body: None, within: ANSWER }
    }

    /// Let it be like this.
    pub fn put(path: impl Into<String>, body: Value) -> Self {
        Self { method: "PUT", path: path.into(), body: Some(body), within: ANSWER }
    }

    /// Change this of it.
    pub fn patch(path: &str, body: Value) -> Self {
        Self { method: "PATCH", path: path.into(), body: Some(body), within: ANSWER }
    }

    /// The same, for what takes as long as moving the microVM's memory.
    pub fn that_moves_memory(self) -> Self {
        Self { within: MOVED, ..self }
    }

    fn bytes(&self) -> Vec<u8> {
        let Self { method, path, .. } = self;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n");
        let body = self.body.as_ref().map(Value::to_string).unwrap_or_default();
        if self.body.is_some() {
            let length = body.len();
            head += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        }
        format!("{head}\r\n{body}").into_bytes()
    }

    fn lost(&self, source: io::Error) -> ApiError {
        ApiError::Lost { method: self.method, path: self.path.clone(), source }
    }

    fn unreadable(&self, reason: impl Into<String>) -> ApiError {
        ApiError::Unreadable { method: self.method, path: self.path.clone(), reason: reason.into() }
    }
}

/// A session. Firecracker keeps it open for any number of requests.
#[derive(Debug)]
pub struct Api {
    reader: BufReader<UnixStream>,
}

impl Api {
    /// Connects to Firecracker's socket.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        Ok(Self { reader: BufReader::new(UnixStream::connect(socket)?) })
    }

    /// Has a request carried out; gives what is answered, [`Value::Null`] where nothing is.
    ///
    /// # Errors
    /// [`ApiError`], with the request.
    pub fn ask(&mut self, request: &Request) -> Result<Value, ApiError> {
        let stream = self.reader.get_mut();
        let timed = stream.set_read_timeout(Some(request.within));
        let sent = timed.and_then(|()| stream.set_write_timeout(Some(request.within)));
        sent.and_then(|()| stream.write_all(&request.bytes())).map_err(|error| request.lost(error))?;
        let (status, body) = self.answer(request)?;
        let said = match body.as_slice() {
            [] => Value::Null,
            body => serde_json::from_slice(body).map_err(|error| {
                request.unreadable(format!("{error}: {:?}", String::from_utf8_lossy(body)))
            })?,
        };
        match status {
            200..=299 => Ok(said),
            _ => Err(ApiError::Refused {
                method: request.method,
                path: request.path.clone(),
                status,
                fault: said["fault_message"].as_str().unwrap_or("Firecracker does not say why").to_owned(),
            }),
        }
    }

    /// Status and body.
    fn answer(&mut self, request: &Request) -> Result<(u16, Vec<u8>), ApiError> {
        let first = self.line(request)?;
        let mut words = first.split(' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().and_then(|status| status.parse().ok());
        let status = status.filter(|_| version.starts_with("HTTP/1."));
        let status = status.ok_or_else(|| request.unreadable(format!("it begins with {first:?}")))?;
        let mut length = 0;
        loop {
            let line = self.line(request)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| request.unreadable(format!("it has the header line {line:?}")))?;
            if name.eq_ignore_ascii_case("content-length") {
                let read = value.trim().parse().ok().filter(|length| *length <= MOST);
                length = read.ok_or_else(|| request.unreadable(format!("its length is {value:?}")))?;
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).map_err(|error| request.lost(error))?;
        Ok((status, body))
    }

    fn line(&mut self, request: &Request) -> Result<String, ApiError> {
        let mut line = Vec::new();
        let mut limited = (&mut self.reader).take(LINE);
        limited.read_until(b'\n', &mut line).map_err(|error| request.lost(error))?;
        match line.strip_suffix(b"\n") {
            Some(line) => {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                Ok(String::from_utf8_lossy(line).into_owned())
            }
            None if line.is_empty() => {
                let closed = "Firecracker has closed its API socket";
                Err(request.lost(io::Error::new(io::ErrorKind::UnexpectedEof, closed)))
            }
            None => Err(request.unreadable("a line of it has no end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use serde_json::json;

    use super::*;

    /// Asks for one thing of a server that answers these bytes and goes.
    fn answered(bytes: &'static [u8], request: &Request) -> Result<Value, ApiError> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("api");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = vec![0; request.bytes().len()];
                stream.read_exact(&mut asked).unwrap();
                assert_eq!(asked, request.bytes());
                stream.write_all(bytes).unwrap();
            });
            Api::connect(&socket).unwrap().ask(request)
        })
    }

    #[test]
    fn a_request_is_these_bytes() {
        let text = |request: Request| String::from_utf8(request.bytes()).unwrap();
        assert_eq!(
            text(Request::patch("/vm", json!({ "state": "Paused" }))),
            "PATCH /vm HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: 18\r\n\r\n{\"state\":\"Paused\"}"
        );
        assert_eq!(
            text(Request::get("/")),
            "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n"
        );
    }

    #[test]
    fn a_refusal_has_the_request_the_status_and_the_reason() {
        let bytes = b"HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\
            content-length: 27\r\n\r\n{\"fault_message\":\"no room.\"}";
        let error = answered(&bytes[..bytes.len() - 1], &Request::put("/vsock", json!({}))).unwrap_err();
        assert!(matches!(error, ApiError::Unreadable { .. }), "{error}");

        let bytes = b"HTTP/1.1 400 \r\nContent-Length: 28\r\n\r\n{\"fault_message\":\"no room.\"}";
        let error = answered(bytes, &Request::put("/vsock", json!({}))).unwrap_err();
        assert!(
            matches!(&error, ApiError::Refused { method: "PUT", path, status: 400, fault }
                if path == "/vsock" && fault == "no room."),
            "{error:?}"
        );
        assert_eq!(error.to_string(), "PUT /vsock: status 400: no room.");
    }

    #[test]
    fn what_is_no_answer_is_told_with_the_request() {
        for (bytes, told) in [
            (&b""[..], "GET /: Firecracker has closed its API socket"),
            (b"HTTP/1.1 204 \r\nServer", "GET /: the answer is not readable: a line of it has no end"),
            (b"SSH-2.0\r\n\r\n", "GET /: the answer is not readable: it begins with \"SSH-2.0\""),
            (b"HTTP/1.1 200 \r\nContent-Length: 9999999\r\n\r\n", "its length is \" 9999999\""),
            (b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n{]", "not readable: key must be a string"),
        ] {
            let error = answered(bytes, &Request::get("/")).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
