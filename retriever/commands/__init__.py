"""The commands of `polyseek` that belong to the retriever; each is found through an entry point and imported on use."""
