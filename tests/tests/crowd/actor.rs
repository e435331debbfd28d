//! One client of the crowd: does whatever comes to its mind, over and over, where everybody else does the same.

use std::sync::Arc;

use http::{Method, StatusCode};
use tests::client::{Ask, Client, Payload};
use tests::content::Random;
use tests::history::{Condition, Demand, Name, Put, Question, Read, Request};
use tests::registry::with_digest;

use crate::record::Record;
use crate::stock::{Bytestring, Stock};

/// Uploads that one client may leave open: far below what a region keeps.
const LEFT_OPEN_MAX: usize = 4;

type Answered = tests::client::Answer;

/// A client.
pub(crate) struct Actor {
    number: usize,
    http: Client,
    record: Arc<Record>,
    stock: Arc<Stock>,
    random: Random,
    /// Revision of its own last write.
    written: Option<u64>,
    left_open: usize,
}

impl Actor {
    pub(crate) fn new(number: usize, address: &str, record: &Arc<Record>, stock: &Arc<Stock>, seed: u64) -> Actor {
        let mut random = Random::new(seed);
        random = Random::new(random.next().wrapping_add(number as u64));
        let (record, stock) = (record.clone(), stock.clone());
        Actor { number, http: Client::new(address), record, stock, random, written: None, left_open: 0 }
    }

    /// Acts until it is over.
    pub(crate) async fn act(mut self, is_over: impl Fn() -> bool) {
        while !is_over() {
            self.step().await;
        }
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.random.below(count) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.random.below(end as u64)).expect("below a length")
    }

    fn tag(&mut self) -> Name {
        let stock = self.stock.clone();
        self.pick(&stock.tags)
    }

    /// Every other time one that nothing keeps from being deleted.
    fn blob(&mut self) -> usize {
        let stock = self.stock.clone();
        if self.one_in(2) { self.pick(&stock.loose) } else { self.below(stock.blobs.len()) }
    }

    fn blob_digest(&mut self) -> Name {
        let index = self.blob();
        self.stock.blobs[index].digest.clone()
    }

    fn manifest(&mut self) -> usize {
        self.below(self.stock.manifests.len())
    }

    fn manifest_digest(&mut self) -> Name {
        let index = self.manifest();
        self.stock.manifests[index].digest.clone()
    }

    /// Mostly the one that everybody works in.
    fn repository(&mut self) -> Name {
        let index = match self.random.below(20) {
            0..16 => 0,
            16..19 => 1,
            _ => 2,
        };
        self.stock.repositories[index].clone()
    }

    async fn step(&mut self) {
        let repository = self.repository();
        match self.random.below(100) {
            0..12 => self.push_some_blob(&repository).await,
            12..20 => self.mount(&repository).await,
            20..30 => self.push_image(&repository).await,
            30..42 => self.put(&repository).await,
            42..47 => self.move_what_was_read(&repository).await,
            47..53 => {
                let tag = self.tag();
                let path = format!("/v2/{repository}/manifests/{tag}");
                self.write(Request::DeleteTag { repository, tag }, Ask::new(Method::DELETE, path)).await;
            }
            53..58 => {
                let digest = self.manifest_digest();
                let path = format!("/v2/{repository}/manifests/{digest}");
                self.write(Request::DeleteManifest { repository, digest }, Ask::new(Method::DELETE, path)).await;
            }
            58..65 => {
                let (digest, stock) = (self.blob_digest(), self.stock.clone());
                let repository = if self.one_in(2) { self.pick(&stock.repositories) } else { repository };
                let path = format!("/v2/{repository}/blobs/{digest}");
                self.write(Request::DeleteBlob { repository, digest }, Ask::new(Method::DELETE, path)).await;
            }
            65..72 => self.list(&repository).await,
            72..80 => self.read_tag(&repository).await,
            80..85 => self.read_manifest(&repository).await,
            85..92 => self.read_blob(&repository).await,
            92..98 => self.referrers(&repository).await,
            _ => self.try_uploads_that_fail(&repository).await,
        }
    }

    async fn write(&mut self, request: Request, ask: Ask) -> Option<Answered> {
        let answer = self.record.ask((self.number, &self.http), &self.stock, request.clone(), ask).await;
        let revision = answer.as_ref().and_then(|answer| answer.header("longshore-revision").parse().ok());
        if let Some(revision) = revision {
            self.written = Some(revision);
            if self.one_in(3) {
                self.read_own_write(&request, revision).await;
            }
        }
        answer
    }

    /// Reads what was just written, in the next region and without a proof: only the revision sees to it that it shows.
    async fn read_own_write(&mut self, written: &Request, revision: u64) {
        let (repository, question, path) = match written {
            Request::PutManifest(Put { repository, tags, .. }) if !tags.is_empty() => {
                (repository, Question::Tag(tags[0].clone()), format!("manifests/{}", tags[0]))
            }
            Request::DeleteTag { repository, tag } => {
                (repository, Question::Tag(tag.clone()), format!("manifests/{tag}"))
            }
            Request::PutManifest(Put { repository, digest, .. }) | Request::DeleteManifest { repository, digest } => {
                (repository, Question::Manifest(digest.clone()), format!("manifests/{digest}"))
            }
            Request::PushBlob { repository, digest }
            | Request::MountBlob { repository, digest, .. }
            | Request::DeleteBlob { repository, digest } => {
                (repository, Question::GetBlob(digest.clone()), format!("blobs/{digest}"))
            }
            Request::Read(_) => return,
        };
        let ask = Ask::new(Method::GET, format!("/v2/{repository}/{path}"));
        self.read_as(repository, question, ask, Demand::Local, Some(revision)).await;
    }

    async fn read(&mut self, repository: &Name, question: Question, ask: Ask) -> Option<Answered> {
        self.read_as(repository, question, ask, Demand::Usual, None).await
    }

    async fn read_as(
        &mut self,
        repository: &Name,
        question: Question,
        ask: Ask,
        demand: Demand,
        min_revision: Option<u64>,
    ) -> Option<Answered> {
        let ask = match demand {
            Demand::Usual => ask,
            Demand::Strict => ask.header("longshore-consistency", "strict"),
            Demand::Local => ask.header("longshore-consistency", "local"),
        };
        let ask = match min_revision {
            Some(revision) => ask.header("longshore-min-revision", revision.to_string()),
            None => ask,
        };
        let request = Request::Read(Read { repository: repository.clone(), question, demand, min_revision });
        self.record.ask((self.number, &self.http), &self.stock, request, ask).await
    }

    /// Mostly what clients ask by themselves; sometimes one of the other proofs, or to see one's own writes.
    fn demand(&mut self) -> (Demand, Option<u64>) {
        let demand = match self.random.below(8) {
            0 => Demand::Strict,
            1 | 2 => Demand::Local,
            _ => Demand::Usual,
        };
        (demand, if self.one_in(4) { self.written } else { None })
    }

    async fn push_some_blob(&mut self, repository: &Name) {
        let blob = self.blob();
        self.push_blob(repository, blob).await;
    }

    /// Uploads a blob, in one of the ways that clients have.
    async fn push_blob(&mut self, repository: &Name, index: usize) {
        let stock = self.stock.clone();
        let Bytestring { digest, bytes } = &stock.blobs[index];
        let request = Request::PushBlob { repository: repository.clone(), digest: digest.clone() };
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let way = self.random.below(6);
        if way == 0 {
            let ask = Ask::new(Method::POST, with_digest(&uploads, digest)).payload(Payload::Given(bytes.clone()));
            self.write(request, ask).await;
            return;
        }
        let Some(opened) = self.record.step(&self.http, "open upload", Ask::new(Method::POST, uploads)).await else {
            return;
        };
        if opened.status != StatusCode::ACCEPTED {
            return;
        }
        let mut location = opened.header("location").to_owned();
        if self.left_open < LEFT_OPEN_MAX && self.one_in(50) {
            self.left_open += 1;
            return;
        }
        let half = bytes.len() / 2;
        let (chunks, last) = match way {
            1 | 2 => (vec![], Payload::Given(bytes.clone())),
            3 => (vec![(Payload::Chunked(bytes.clone()), None)], Payload::Empty),
            4 if half > 0 => {
                let first = (Payload::Given(bytes.slice(..half)), Some((0, half)));
                (vec![first, (Payload::Given(bytes.slice(half..)), Some((half, bytes.len())))], Payload::Empty)
            }
            _ => (vec![(Payload::Given(bytes.slice(..half)), None)], Payload::Given(bytes.slice(half..))),
        };
        for (payload, range) in chunks.into_iter().filter(|(payload, _)| !is_nothing(payload)) {
            let ask = Ask::new(Method::PATCH, &location).payload(payload);
            let ask = match range {
                Some((from, to)) => ask.header("content-range", format!("{from}-{}", to - 1)),
                None => ask,
            };
            match self.record.step(&self.http, "patch", ask).await {
                Some(answer) if answer.status == StatusCode::ACCEPTED => {
                    answer.header("location").clone_into(&mut location);
                }
                _ => return,
            }
        }
        let ask = Ask::new(Method::PUT, with_digest(&location, digest)).payload(last);
        if let Some(answer) = self.write(request, ask).await
            && answer.status == StatusCode::CREATED
        {
            self.record.closed(&location, &answer);
        }
    }

    /// Uploads that are cancelled, or closed under the digest of another blob.
    async fn try_uploads_that_fail(&mut self, repository: &Name) {
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let Some(opened) = self.record.step(&self.http, "open upload", Ask::new(Method::POST, uploads)).await else {
            return;
        };
        let location = opened.header("location").to_owned();
        if location.is_empty() {
            return;
        }
        if self.one_in(2) {
            let digest = self.blob_digest();
            let bytes = Payload::Given("of no blob at all".into());
            let ask = Ask::new(Method::PUT, with_digest(&location, &digest)).payload(bytes);
            self.record.step(&self.http, "close wrongly", ask).await;
        }
        self.cancel(&location).await;
    }

    async fn cancel(&mut self, location: &str) {
        let answer = self.record.step(&self.http, "cancel upload", Ask::new(Method::DELETE, location)).await;
        // Where the session is gone there is nothing left of it.
        if answer.is_some_and(|answer| [204, 404].contains(&answer.status.as_u16())) {
            self.record.cancelled(location);
        }
    }

    async fn mount(&mut self, repository: &Name) {
        let digest = self.blob_digest();
        self.mount_blob(repository, digest).await;
    }

    /// Mounts a blob, and uploads it or goes away where that cannot be done.
    async fn mount_blob(&mut self, repository: &Name, digest: Name) {
        let stock = self.stock.clone();
        let from = if self.one_in(3) { None } else { Some(self.pick(&stock.repositories)) };
        let mut path = format!("/v2/{repository}/blobs/uploads/?mount={digest}");
        if let Some(from) = &from {
            path += &format!("&from={from}");
        }
        let request = Request::MountBlob { repository: repository.clone(), from, digest: digest.clone() };
        let Some(answer) = self.write(request, Ask::new(Method::POST, path)).await else { return };
        if answer.status != StatusCode::ACCEPTED {
            return;
        }
        let location = answer.header("location").to_owned();
        let blob = stock.blobs.iter().find(|blob| blob.digest == digest);
        match blob.filter(|_| self.one_in(2)) {
            Some(blob) => {
                let request = Request::PushBlob { repository: repository.clone(), digest: digest.clone() };
                let ask = Ask::new(Method::PUT, with_digest(&location, &digest));
                let closed = self.write(request, ask.payload(Payload::Given(blob.bytes.clone()))).await;
                if let Some(answer) = closed.filter(|answer| answer.status == StatusCode::CREATED) {
                    self.record.closed(&location, &answer);
                }
            }
            None => self.cancel(&location).await,
        }
    }

    /// As clients do: looks for each blob, brings what is not there, and puts the manifest.
    async fn push_image(&mut self, repository: &Name) {
        let stock = self.stock.clone();
        let index = self.manifest();
        for blob in &stock.manifests[index].blobs {
            let digest = &stock.blobs[*blob].digest;
            let ask = Ask::new(Method::HEAD, format!("/v2/{repository}/blobs/{digest}"));
            let found = self.read(repository, Question::HeadBlob(digest.clone()), ask).await;
            match found.map(|answer| answer.status) {
                Some(StatusCode::OK) => {}
                _ if self.one_in(3) => self.mount_blob(repository, digest.clone()).await,
                _ => self.push_blob(repository, *blob).await,
            }
        }
        let condition = self.condition();
        self.put_manifest(repository, index, condition).await;
    }

    async fn put(&mut self, repository: &Name) {
        let (index, condition) = (self.manifest(), self.condition());
        self.put_manifest(repository, index, condition).await;
    }

    fn condition(&mut self) -> Condition {
        match self.random.below(10) {
            0 | 1 => Condition::Absent,
            2 => Condition::Present,
            3 => Condition::Matches((0..1 + self.below(3)).map(|_| self.manifest_digest()).collect()),
            _ => Condition::Always,
        }
    }

    /// Puts a manifest under a tag, under its digest, or under its digest with tags.
    async fn put_manifest(&mut self, repository: &Name, index: usize, condition: Condition) -> Option<Answered> {
        let mut tags = Vec::new();
        let mut path = format!("/v2/{repository}/manifests/");
        let digest = self.stock.manifests[index].digest.clone();
        match self.random.below(10) {
            0..6 => {
                tags.push(self.tag());
                path += &tags[0];
            }
            6 => path += &digest,
            _ => {
                for _ in 0..1 + self.below(3) {
                    let tag = self.tag();
                    tags.extend((!tags.contains(&tag)).then_some(tag));
                }
                path += &format!("{digest}?tag={}", tags.join("&tag="));
            }
        }
        self.put_under(repository, index, (path, tags), condition).await
    }

    async fn put_under(
        &mut self,
        repository: &Name,
        index: usize,
        (path, tags): (String, Vec<Name>),
        condition: Condition,
    ) -> Option<Answered> {
        let stock = self.stock.clone();
        let stored = &stock.manifests[index];
        let ask = Ask::new(Method::PUT, path)
            .header("content-type", stored.manifest.media_type)
            .payload(Payload::Given(stored.manifest.body.clone()));
        let ask = match &condition {
            Condition::Always => ask,
            Condition::Absent => ask.header("if-none-match", "*"),
            Condition::Present => ask.header("if-match", "*"),
            Condition::Matches(digests) => {
                let digests: Vec<String> = digests.iter().map(|digest| format!("\"{digest}\"")).collect();
                ask.header("if-match", digests.join(", "))
            }
        };
        let put = Put { repository: repository.clone(), digest: stored.digest.clone(), tags, condition };
        self.write(Request::PutManifest(put), ask).await
    }

    /// Reads a tag and moves it, unless somebody else moved it in between.
    async fn move_what_was_read(&mut self, repository: &Name) {
        let tag = self.tag();
        let path = format!("/v2/{repository}/manifests/{tag}");
        let ask = Ask::new(Method::GET, &path);
        let Some(read) = self.read(repository, Question::Tag(tag.clone()), ask).await else { return };
        let condition = match read.status {
            StatusCode::OK => Condition::Matches(vec![read.header("docker-content-digest").into()]),
            _ => Condition::Absent,
        };
        let index = self.manifest();
        self.put_under(repository, index, (path, vec![tag]), condition).await;
    }

    /// Walks through all pages, or looks at one.
    async fn list(&mut self, repository: &Name) {
        let walk = self.record.walk();
        let mut rows = if self.one_in(4) { None } else { Some(self.below(4)) };
        let mut last = if self.one_in(6) { Some(self.tag()) } else { None };
        let mut path = format!("/v2/{repository}/tags/list");
        let mut joint = '?';
        for (name, value) in
            [("n", rows.map(|rows| rows.to_string())), ("last", last.as_ref().map(ToString::to_string))]
        {
            if let Some(value) = value {
                path += &format!("{joint}{name}={value}");
                joint = '&';
            }
        }
        // A whole walk without proofs is held together by the revisions in its links alone.
        let (demand, min) = if self.one_in(2) { (Demand::Local, None) } else { self.demand() };
        // Each page goes on behind the one before, so there are no more of them than tags.
        for _ in 0..=self.stock.tags.len() {
            let question = Question::Tags { rows, last: last.take(), walk };
            let answer = self.read_as(repository, question, Ask::new(Method::GET, &path), demand, min).await;
            let Some(next) = answer.as_ref().and_then(|answer| next(answer.header("link"))) else { return };
            path = next;
            let value = |name: &str| {
                let query = path.split_once('?').map(|(_, query)| query).unwrap_or_default();
                query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
            };
            rows = value("n").and_then(|text| text.parse().ok());
            last = value("last").map(Name::from);
        }
        self.record.complain(format!("a walk through a list of {} tags does not end: {path}", self.stock.tags.len()));
    }

    fn look(&mut self) -> Method {
        if self.one_in(3) { Method::HEAD } else { Method::GET }
    }

    async fn read_tag(&mut self, repository: &Name) {
        let (tag, method, (demand, min)) = (self.tag(), self.look(), self.demand());
        let ask = Ask::new(method, format!("/v2/{repository}/manifests/{tag}"));
        self.read_as(repository, Question::Tag(tag), ask, demand, min).await;
    }

    async fn read_manifest(&mut self, repository: &Name) {
        let (digest, method, (demand, min)) = (self.manifest_digest(), self.look(), self.demand());
        let ask = Ask::new(method, format!("/v2/{repository}/manifests/{digest}"));
        self.read_as(repository, Question::Manifest(digest), ask, demand, min).await;
    }

    async fn read_blob(&mut self, repository: &Name) {
        let (digest, method, (demand, min)) = (self.blob_digest(), self.look(), self.demand());
        let question =
            if method == Method::HEAD { Question::HeadBlob(digest.clone()) } else { Question::GetBlob(digest.clone()) };
        let ask = Ask::new(method, format!("/v2/{repository}/blobs/{digest}"));
        self.read_as(repository, question, ask, demand, min).await;
    }

    async fn referrers(&mut self, repository: &Name) {
        let stock = self.stock.clone();
        let (subject, (demand, min)) = (self.pick(&stock.subjects()), self.demand());
        let artifact_type = if self.one_in(3) { Some(self.pick(&stock.types)) } else { None };
        let mut path = format!("/v2/{repository}/referrers/{subject}");
        if let Some(artifact_type) = &artifact_type {
            path += &format!("?artifactType={artifact_type}");
        }
        self.read_as(
            repository,
            Question::Referrers { subject, artifact_type },
            Ask::new(Method::GET, path),
            demand,
            min,
        )
        .await;
    }

    /// Fills the repositories that blobs are mounted from, and puts one image where everybody works.
    pub(crate) async fn prepare(&mut self) {
        let stock = self.stock.clone();
        for (index, _) in stock.blobs.iter().enumerate() {
            self.push_blob(&stock.repositories[1], index).await;
            self.push_blob(&stock.repositories[index % 3], index).await;
        }
        self.push_image(&stock.repositories[0]).await;
    }

    /// Looks at everything there is.
    pub(crate) async fn look_at_everything(&mut self) {
        let stock = self.stock.clone();
        for repository in &stock.repositories {
            let walk = self.record.walk();
            let ask = Ask::new(Method::GET, format!("/v2/{repository}/tags/list"));
            self.read(repository, Question::Tags { rows: None, last: None, walk }, ask).await;
            for tag in &stock.tags {
                let ask = Ask::new(Method::GET, format!("/v2/{repository}/manifests/{tag}"));
                self.read(repository, Question::Tag(tag.clone()), ask).await;
            }
            for stored in &stock.manifests {
                let ask = Ask::new(Method::GET, format!("/v2/{repository}/manifests/{}", stored.digest));
                self.read(repository, Question::Manifest(stored.digest.clone()), ask).await;
            }
            for blob in &stock.blobs {
                let path = format!("/v2/{repository}/blobs/{}", blob.digest);
                self.read(repository, Question::HeadBlob(blob.digest.clone()), Ask::new(Method::HEAD, &path)).await;
                let question = Question::GetBlob(blob.digest.clone());
                self.read_as(repository, question, Ask::new(Method::GET, &path), Demand::Strict, None).await;
            }
            for subject in stock.subjects() {
                let ask = Ask::new(Method::GET, format!("/v2/{repository}/referrers/{subject}"));
                self.read(repository, Question::Referrers { subject, artifact_type: None }, ask).await;
            }
        }
    }
}

fn is_nothing(payload: &Payload) -> bool {
    match payload {
        Payload::Empty => true,
        Payload::Given(bytes) | Payload::Chunked(bytes) => bytes.is_empty(),
        Payload::Generated(content) => content.is_empty(),
    }
}

/// Where a `Link` leads.
fn next(link: &str) -> Option<String> {
    link.strip_prefix('<')?.split_once('>').map(|(path, _)| path.to_owned())
}
