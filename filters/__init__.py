"""What may pass: one gate per file, each a frozen dataclass whose fields are its settings.

A gate is asked with `await gate(subject)` and answers with a `Verdict`. It is useful outside a graph too: any
`Subject(id, row)` will do. `GATES` lists the gates by name; `judge` asks one and turns a crash into the verdict `error`.
"""
