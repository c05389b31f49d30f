"""Between Label Studio and the captioner: wire protocol, inbox, queue, registry, serving."""
