package worker

import "starling/internal/mark"

// Passed where the flock is not as it should be, or is made whole again.
var (
	markHeld    = mark.New("worker: shard still held")
	markKept    = mark.New("worker: shard taken from the store")
	markSpoilt  = mark.New("worker: shard in the store is damaged")
	markWant    = mark.New("worker: shard asked for")
	markDamaged = mark.New("worker: damaged input")
	markOver    = mark.New("worker: work dropped that nobody wants any more")
)
