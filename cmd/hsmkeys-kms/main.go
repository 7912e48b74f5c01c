// Command hsmkeys-kms is a KMS v2 plugin for the Kubernetes API server: what the server encrypts at rest
// is encrypted under a session key of an hsmkeys keyring, which a token wraps with.
package main

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/build"
	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/metrics"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/program"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/unixsocket"
	"github.com/hsmkeys/hsmkeys/token"
)

func main() { program.Main("hsmkeys-kms", run) }

func run(ctx context.Context) int {
	app := newApp()
	if err := app.RunContext(ctx, commandline.Arrange(app, os.Args)); err != nil {
		return message.Report(ctx, err)
	}
	return 0
}

// defaultSocket is where the API server finds the plugin, unless it is told another place.
const defaultSocket = "/run/hsmkeys-kms/kms.sock"

func newApp() *cli.App {
	return &cli.App{
		Name: "hsmkeys-kms", Usage: "a KMS v2 plugin for Kubernetes, with a session key of an hsmkeys keyring",
		Version: build.Read().Version, HideHelpCommand: true,
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "the `NAME` of the session key, whose purpose is to wrap"},
			&cli.StringFlag{Name: "socket", Usage: "listen on this `PATH`", Value: defaultSocket},
			&cli.StringFlag{Name: "metrics", Usage: "serve metrics in Prometheus' format on this `ADDRESS`, such as 127.0.0.1:9464", DefaultText: "no metrics"},
		}, commandline.GlobalFlags(), []cli.Flag{cli.HelpFlag}),
		OnUsageError:   commandline.OnUsageError,
		ExitErrHandler: func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			if c.NArg() == 1 && c.Args().First() == "help" { // what Arrange makes of --help
				return cli.ShowAppHelp(c)
			}
			s, err := commandline.Settings(c)
			if err != nil {
				return err
			}
			if c.Args().Present() {
				return failure.Usage("%q is an argument, and there are only options", c.Args().First())
			}
			ref, err := hsmkeys.ParseRef(c.String("key"))
			switch {
			case c.String("key") == "":
				return failure.Usage("--key NAME is missing: the session key to encrypt under")
			case err != nil:
				return err
			case ref.Version != 0:
				return failure.Usage("--key is the name of a key without a version: the plugin encrypts under the newest one")
			}
			return serve(c.Context, s, ref.Name, c.String("socket"), c.String("metrics"))
		},
	}
}

// serve listens, opens the keyring, and serves until ctx is done. If the token has refused the PIN it does
// nothing more until then: who starts it anew by itself would try the PIN until the token locks.
func serve(ctx context.Context, s *settings.Settings, name, socket, metricsAddress string) error {
	err := listenAndServe(ctx, s, name, socket, metricsAddress)
	if sel, _, _ := s.Selector(); s.Unattended(sel) && (errors.Is(err, token.ErrPIN) || errors.Is(err, token.ErrPINLocked)) {
		message.Warn(err)
		message.Note("the PIN is not tried again: mend its source, and restart this program")
		<-ctx.Done()
	}
	return err
}

func listenAndServe(ctx context.Context, s *settings.Settings, name, socket, metricsAddress string) error {
	listener, release, err := unixsocket.Listen(socket)
	if err != nil {
		return err
	}
	defer release()
	defer listener.Close()
	meter := metrics.New("hsmkeys_kms")
	if metricsAddress != "" {
		stop, err := meter.Serve(metricsAddress)
		if err != nil {
			return err
		}
		defer stop()
	}
	s.Stays = true
	s.TokenPatience = -1 // a call must not wait longer than the API server does
	return session.WithStorePair(ctx, s, func(t session.Token, pair session.Pair, store place.Store) error {
		k, err := session.OpenKeyring(ctx, s, pair, store)
		if err != nil {
			return err
		}
		if own, ok := t.(interface{ Sessions() int }); ok { // otherwise it is the agent's, which counts them
			meter.Gauge("sessions", func() float64 { return float64(own.Sessions()) })
		}
		record, err := session.Record(s)
		if err != nil {
			return err
		}
		p := newPlugin(k, name, meter, record)
		defer p.close()
		if err := p.ready(ctx); err != nil {
			return err
		}
		defer program.OnHangup(func() { session.ReopenAudit(s) })()
		message.Note("serving key %s of keyring %s on %s", name, k.ID(), socket)
		return p.untilExchanged(ctx, func(ctx context.Context) error { return serveGRPC(ctx, listener, p) })
	})
}
