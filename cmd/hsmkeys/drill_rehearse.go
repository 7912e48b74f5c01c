package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/cmd/internal/build"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/keyfile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token"
)

// defaultCanary is the name of the key for rehearsals unless --canary names another.
const defaultCanary = "canary"

// rehearseFlags are the options of a rehearsal from end to end.
func rehearseFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "rehearse", Usage: "walk a recovery from end to end with an authority's token, in a copy and for one key"},
		&cli.StringFlag{Name: "canary", Usage: "`NAME` of the key for that, which is used for nothing else", DefaultText: defaultCanary},
		&cli.StringFlag{Name: "quorum", Usage: "`LABEL` of the quorum whose custodians rehearse, in place of the token of a single authority"},
		&cli.StringSliceFlag{Name: "custodian", Usage: "`TOKEN` of a custodian who is here, once for each; they are asked for if there is a terminal"},
		voucherFlag(), yesFlag(),
	}
}

// rehearse walks a recovery from end to end, and prints what it has done.
func rehearse(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, canary string) error {
	return withSpare(ctx, func(spare *childSpare) error {
		return rehearseWith(ctx, s, k, canary, spare, nil)
	})
}

func rehearseWith(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, canary string, spare *childSpare, begin func(context.Context, *hsmkeys.Keyring) (*hsmkeys.Recovery, error)) error {
	copied, err := dir.Create(spare.path("store"))
	if err != nil {
		return err
	}
	defer copied.Close()
	b := build.Read()
	r, err := k.Rehearse(ctx, hsmkeys.RehearsalOptions{
		Canary: canary, Copy: copied, Pins: hsmkeys.NewPins(nil, spare.path("pins")), Spare: spare, Begin: begin,
		Program: "hsmkeys " + b.Version + " " + b.Platform,
	})
	if err != nil {
		return err
	}
	if s.JSON {
		return nil // it is in the report
	}
	return output.Line("rehearsed in %s: recovered %s@%d to a throw-away token (%s), joined, rewrapped, decrypted a file; everything is removed",
		text.Age(time.Duration(r.Seconds)*time.Second), r.Canary, r.Version, r.Spare)
}

// A childSpare is a new owner with a throw-away token of SoftHSM, whose commands are processes of their
// own, as on another machine: nothing of this one's configuration, pins or tokens is theirs.
type childSpare struct {
	dir   string
	env   *softhsm.Env
	pin   string // random; not in a file, which would stay if the process is killed
	model string // of the token, and its version
}

// rehearsalArgument is the first argument of a process that works in the copy of a rehearsal, which nobody else
// takes for the keyring, see [ledger.RehearsalStore].
const rehearsalArgument = "__rehearsal"

// sparePIN is the variable with the PIN of the throw-away token, for the processes that use it alone.
const sparePIN = "HSMKEYS_REHEARSAL_PIN"

// withSpare makes the token, calls f, and removes everything.
func withSpare(ctx context.Context, f func(*childSpare) error) (err error) {
	dir, err := os.MkdirTemp("", "hsmkeys-rehearsal-") // mode 0700
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	env, err := softhsm.New()
	if err != nil {
		return noSoftHSM(fmt.Errorf("make a throw-away token: %w", err))
	}
	defer func() { err = errors.Join(err, env.Close()) }()
	s := &childSpare{dir: dir, env: env, pin: rand.Text()[:16]}
	if err := s.init(ctx); err != nil {
		return fmt.Errorf("make a throw-away token: %w", err)
	}
	return f(s)
}

// init initialises the token, and makes its pair.
func (s *childSpare) init(ctx context.Context) error {
	if _, err := s.run(ctx, "token", "init", "spare", "--so-pin-source", "env:"+sparePIN); err != nil {
		return err
	}
	out, err := s.run(ctx, "token", "list", "--json")
	if err != nil {
		return err
	}
	var tokens []token.Info
	if err := json.Unmarshal(out, &tokens); err != nil {
		return err
	}
	for _, t := range tokens {
		if t.Label == "spare" {
			s.model = text.Line(t.Model + " " + t.Firmware)
		}
	}
	_, err = s.run(ctx, "init", "--pair-only")
	return err
}

func (s *childSpare) path(name string) string { return filepath.Join(s.dir, name) }

// String returns the model and version of the token.
func (s *childSpare) String() string { return s.model }

// Certificate returns the certificate of the token's pair.
func (s *childSpare) Certificate(ctx context.Context) (*x509.Certificate, error) {
	if _, err := s.run(ctx, "certificate", "-o", s.path("spare.pem")); err != nil {
		return nil, err
	}
	return keyfile.ReadCertificate(s.path("spare.pem"))
}

// Take joins, takes the key over and decrypts the file.
func (s *childSpare) Take(ctx context.Context, voucher *x509.Certificate, key string, file []byte) ([]byte, error) {
	for name, data := range map[string][]byte{"voucher.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: voucher.Raw}), "canary.age": file} {
		if err := os.WriteFile(s.path(name), data, 0o600); err != nil {
			return nil, err
		}
	}
	for _, args := range [][]string{{"join", "--vouched-by", s.path("voucher.pem"), "--yes"}, {"rewrap", key}, {"decrypt", s.path("canary.age")}} {
		out, err := s.run(ctx, args...)
		if err != nil || args[0] == "decrypt" {
			return out, err
		}
	}
	return nil, nil
}

// run runs this program, in an environment of the token's own.
func (s *childSpare) run(ctx context.Context, args ...string) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if runtime.GOOS == "linux" {
		self = "/proc/self/exe" // works even if the file of the program has been replaced
	}
	cmd := exec.CommandContext(ctx, self, append([]string{rehearsalArgument}, args...)...)
	cmd.Args[0] = "hsmkeys"
	cmd.Dir = s.dir
	cmd.Env = append(s.env.Environ(), "HOME="+s.dir, "HSMKEYS_MODULE="+s.env.Module(), "HSMKEYS_TOKEN=spare",
		"HSMKEYS_STORE="+s.path("store"), "HSMKEYS_PIN_SOURCE=env:"+sparePIN, sparePIN+"="+s.pin)
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT", "GORACE"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // which removes its temporary files
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		why := strings.TrimPrefix(text.Line(strings.TrimSpace(said.String())), "hsmkeys: ")
		return nil, fmt.Errorf("hsmkeys %s: %v: %s", args[0], err, why) // whose status is not ours
	}
	return out.Bytes(), nil
}

// noSoftHSM returns the error for a machine without SoftHSM, with what to do about it.
func noSoftHSM(err error) error {
	if errors.Is(err, softhsm.ErrNotInstalled) {
		return failure.WithHint(err, "a rehearsal recovers to a throw-away token of SoftHSM: install it (apt-get install softhsm2)")
	}
	return err
}

// rehearsalFor is how long the approvals of a rehearsal hold. They are for a list of members that puts the
// throw-away token in the place of an owner: once that is gone, nobody could use it.
const rehearsalFor = time.Hour

// rehearseWithQuorum has the custodians of a quorum, who come to this machine, walk a recovery.
func rehearseWithQuorum(ctx context.Context, s *settings.Settings, c *cli.Context, o drillOptions) error {
	tokens, yes := c.StringSlice("custodian"), c.Bool("yes")
	if err := mayGather(tokens, yes); err != nil {
		return err
	}
	if c.String("vouched-by") == "" {
		return failure.Usage("drill --rehearse --quorum needs --vouched-by CERTIFICATE, of an owner, from outside the storage")
	}
	voucher, err := keyfile.ReadCertificate(c.String("vouched-by"))
	if err != nil {
		return err
	}
	store, err := session.OpenStore(ctx, s)
	if err != nil {
		return err
	}
	defer store.Close()
	r := &quorumRecovery{s: s, store: store, reason: hsmkeys.RehearsalReason, rehearsal: true}
	if err := r.open(ctx, voucher, c.String("quorum")); err != nil {
		return err
	}
	if _, err := r.k.Versions(ctx, o.canary); err != nil { // before the key is put together
		return fmt.Errorf("the key for rehearsals: %w", err)
	}
	return withSpare(ctx, func(spare *childSpare) error {
		if err := r.toSpare(ctx, spare); err != nil {
			return err
		}
		if err := r.confirm(ctx, voucher, yes); err != nil {
			return err
		}
		g, err := r.gather(ctx, rehearsalFor, tokens, yes)
		if err != nil {
			return err
		}
		defer g.Close()
		q, err := openWithQuorum(ctx, s, store, r.k, g)
		if err != nil {
			return err
		}
		err = rehearseWith(ctx, s, q, o.canary, spare, func(ctx context.Context, copied *hsmkeys.Keyring) (*hsmkeys.Recovery, error) {
			return copied.BeginApproved(ctx, g)
		})
		if err != nil {
			message.Warn(fmt.Errorf("the private key of the quorum was in the memory of this machine: the owner replaces it with hsmkeys quorum replace %s", text.ShellQuote(g.Quorum.Label)))
			return err
		}
		return drill(ctx, s, q, o)
	})
}

// toSpare has the recovery go to the throw-away token, in the place of the first owner.
func (r *quorumRecovery) toSpare(ctx context.Context, spare *childSpare) error {
	certificate, err := spare.Certificate(ctx)
	if err != nil {
		return err
	}
	r.to = hsmkeys.SpareMember(certificate)
	for _, m := range r.k.Members() {
		if m.Role == blob.Owner {
			r.from = m.Certificate
			break
		}
	}
	return nil
}
