"""An execution's life: admitted, queued, running, finished. The one state machine."""
