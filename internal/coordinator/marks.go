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

	markCut     = mark.New("coordinator: connection lost in a layer")
	markNoRoom  = mark.New("coordinator: input not sent, as the queue is full")
	markStale   = mark.New("coordinator: stale result dropped")
	markTwice   = mark.New("coordinator: duplicate result dropped")
	markCopied  = mark.New("coordinator: copy of a result not needed any more")
	markGrace   = mark.New("coordinator: grace over")
	markLate    = mark.New("coordinator: patience over, late slices computed here")
	markStandIn = mark.New("coordinator: lost slice computed here beside the others")
	markGone    = mark.New("coordinator: lost slices computed here")

	markLags        = mark.New("coordinator: input not sent to a worker that lags")
	markHedge       = mark.New("coordinator: later than usual, others asked")
	markExtraParity = mark.New("coordinator: parity asked for that was kept back")
	markExtraCopy   = mark.New("coordinator: copy asked for that was kept back")
	markSpareAsked  = mark.New("coordinator: spare asked for a late or lost slice")

	markSubtracted = mark.New("coordinator: one slice decoded by the first parity")
	markSolved     = mark.New("coordinator: slices decoded by other parities")
	markTile       = mark.New("coordinator: overlapping tile decoded")

	markVain    = mark.New("coordinator: audit in vain, as a result is missing")
	markSuspect = mark.New("coordinator: liar found by syndromes")
	markChecked = mark.New("coordinator: liar found by computing here")
	markParity  = mark.New("coordinator: wrong parity found")
)
