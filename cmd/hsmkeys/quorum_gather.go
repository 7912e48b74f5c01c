package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/confirm"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// gather has custodians come to this machine until there are enough of them. The caller closes what it
// returns.
func (r *quorumRecovery) gather(ctx context.Context, within time.Duration, tokens []string, yes bool) (*hsmkeys.Gathering, error) {
	lockMemory()
	p, key, err := r.propose(time.Now().Add(within))
	if err != nil {
		return nil, err
	}
	g, err := r.k.Gather(ctx, p, key)
	if err != nil {
		return nil, err
	}
	if err := gatherHere(ctx, r.s, g, p, tokens, yes); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// mayGather returns an error if custodians can come to this machine neither by --custodian nor at a
// terminal.
func mayGather(tokens []string, yes bool) error {
	if len(tokens) > 0 {
		return confirm.Possible(yes)
	}
	if confirm.Possible(false) != nil {
		return failure.Usage("there is no terminal to ask the custodians at; --custodian TOKEN names the token of each, or use hsmkeys quorum request")
	}
	return nil
}

// gatherHere has custodians come to this machine one after the other until there are enough of them.
func gatherHere(ctx context.Context, s *settings.Settings, g *hsmkeys.Gathering, p blob.Proposal, tokens []string, yes bool) error {
	var failed error
	for ctx.Err() == nil && g.Missing() > 0 {
		var label string
		switch {
		case len(tokens) > 0:
			label, tokens = tokens[0], tokens[1:]
		case failed != nil && yes:
			return failed
		default:
			var err error
			if label, err = askForToken(ctx, g); err != nil {
				return errors.Join(failed, err)
			}
		}
		if err := oneCustodian(ctx, s, g, p, label, yes); err != nil {
			message.Error(err) // another one may come
			failed = errors.Join(failed, failure.ErrReported, err)
		}
		if len(tokens) == 0 && g.Missing() > 0 && confirm.Possible(false) != nil {
			return errors.Join(failed, nothingDone(g, failed))
		}
	}
	return ctx.Err()
}

// nothingDone returns the error for too few approvals. If others were printed before it, it is printed too.
func nothingDone(g *hsmkeys.Gathering, printed error) error {
	_, err := g.Pair()
	err = fmt.Errorf("nothing was changed: %w", err)
	if printed != nil {
		message.Error(err)
	}
	return err
}

// askForToken asks for the token of the next custodian.
func askForToken(ctx context.Context, g *hsmkeys.Gathering) (string, error) {
	tty, err := terminal.Open()
	if err != nil {
		return "", err
	}
	defer tty.Close()
	fmt.Fprintf(tty, "%s of %s still needed: insert the token of the next custodian; its label, or nothing for the only token that is there: ",
		text.Plural(g.Missing(), "custodian", "custodians"), text.Printable(g.Quorum.Label))
	ended := context.AfterFunc(ctx, func() { fmt.Fprintln(tty) })
	defer ended()
	line, err := bufio.NewReader(tty).ReadString('\n')
	if err != nil {
		return "", errors.New("nothing was recovered: the input ended")
	}
	return strings.TrimSpace(line), nil
}

// oneCustodian has the custodian with a token approve.
func oneCustodian(ctx context.Context, s *settings.Settings, g *hsmkeys.Gathering, p blob.Proposal, label string, yes bool) error {
	of, err := s.For(label)
	if err != nil {
		return err
	}
	trusted := g.Trusted()
	as := session.AsCustodian{Quorum: hsmkeys.QuorumName{Certificate: p.Recovery.Quorum}, Trusted: &trusted, Yes: yes, Recoveries: recoveryRows}
	return session.WithCustodian(ctx, of, as, func(q *hsmkeys.Custodian) error {
		a, err := askCustodian(ctx, q, p, yes)
		if err != nil {
			return err
		}
		who, err := g.Add(ctx, a)
		if err == nil {
			message.Note("approved by %s", text.Printable(who.Label))
		}
		return err
	})
}
