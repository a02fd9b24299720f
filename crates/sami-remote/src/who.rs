//! What kind of server it is.

use serde::Deserialize;

use crate::client::ANSWER_LIMIT;
use crate::endpoint::{Dialect, Endpoint, Server};

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    owned_by: String,
}

impl Endpoint {
    /// What kind of server it is; asked once.
    pub(crate) fn server(&self) -> Server {
        match self.settings.dialect {
            Dialect::OpenAi => Server::OpenAi,
            Dialect::Vllm => Server::Vllm,
            Dialect::Auto if self.is_openai() => Server::OpenAi,
            Dialect::Auto => *self.shared.server.get_or_init(|| self.ask_who()),
        }
    }

    /// OpenAI itself, which refuses parameters that it does not know.
    fn is_openai(&self) -> bool {
        let host = self.settings.base_url.split("://").nth(1).unwrap_or_default();
        let host = host.split(['/', ':']).next().unwrap_or_default();
        host == "api.openai.com" || host.ends_with(".openai.azure.com")
    }

    /// A server that cannot say is spoken to in plain terms; should it be gone, the first real request will tell.
    fn ask_who(&self) -> Server {
        // Some servers hang up after a question that they do not know; nobody is to meet a dead connection afterwards.
        let mut request = self.agent.get(self.url("models")).header("Connection", "close");
        if let Some(key) = &self.shared.key {
            request = request.header("Authorization", key.header());
        }
        let text = request.call().ok().and_then(|mut response| {
            let body = response.body_mut().with_config().limit(ANSWER_LIMIT);
            body.read_to_string().ok()
        });
        let models: Option<Models> = text.and_then(|text| serde_json::from_str(&text).ok());
        let owner = models.and_then(|models| models.data.into_iter().next()).map(|model| model.owned_by);
        match owner.as_deref() {
            Some("vllm") => Server::Vllm,
            Some("sglang") => Server::SgLang,
            Some("llamacpp") => Server::LlamaCpp,
            _ => Server::Other,
        }
    }
}
