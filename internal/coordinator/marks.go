package coordinator

import "starling/internal/mark"

// Passed where a flock is not as it should be, or is made whole again.
var (
	markBack    = mark.New("coordinator: worker back before its old connection ended")
	markRefused = mark.New("coordinator: worker refused")
	markDamaged = mark.New("coordinator: damaged result")
	markFailed  = mark.New("coordinator: worker could not compute")
	markSent    = mark.New("coordinator: shard sent")
	markSwapped = mark.New("coordinator: spare took a place")
	markFetch   = mark.New("coordinator: spare told to hold another shard")
)
