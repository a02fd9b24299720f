//! OpenAI-compatible HTTP client of SAMI: sampler, principle writer and judge behind a server.
