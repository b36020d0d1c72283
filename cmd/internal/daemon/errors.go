package daemon

import "errors"

// Errors of Store.Write, besides those of the network.
var (
	// ErrConflict: the key is not at the index that was read. Somebody else wrote it; the next tick adopts what is there.
	ErrConflict = errors.New("the key was changed by somebody else")
	// ErrNotLeader: the lock is not ours any more, so nothing was written.
	ErrNotLeader = errors.New("the lock is not held any more")
)
