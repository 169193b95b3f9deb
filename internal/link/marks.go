package link

import "starling/internal/mark"

// Passed where a link is not as it should be.
var (
	markDamaged   = mark.New("link: damaged payload")
	markNoFrame   = mark.New("link: not a frame")
	markTorn      = mark.New("link: ended within a frame")
	markSilent    = mark.New("link: silent peer")
	markFull      = mark.New("link: queue full")
	markAbandoned = mark.New("link: queued frame dropped with its connection")
)
