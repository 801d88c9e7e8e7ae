//! Embedding jobs, over a provider that answers by script.

mod basics;
