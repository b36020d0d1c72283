// Package wait waits with a context that may end first: for a retry, or for the next look at a store or a file.
package wait

import (
	"context"
	"time"
)

// For waits for d, unless ctx ends first; then it returns ctx's error. A d of 0 or less does not wait.
func For(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
