package program

import (
	"os"
	"os/signal"
	"syscall"
)

// OnHangup calls f at each SIGHUP, which otherwise would end the program, until stop is called.
func OnHangup(f func()) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Reset(syscall.SIGHUP)
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		for range signals {
			f()
		}
	}()
	return func() { signal.Stop(signals) }
}
