package activation

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// report writes the one line about a result. Duplicates are the most frequent
// events of all, and CloudWatch costs money by the byte: they stay at debug,
// as do those that wait; a batch says how many.
func (a *Activator) report(r Result) {
	level, sentence := sentenceFor(r.Outcome)
	a.log.Log(level, sentence,
		zap.String("certificateId", r.CertificateID), zap.String("caCertificateId", r.CACertificateID),
		zap.String("thing", r.Thing), zap.String("result", string(r.Outcome)), zap.String("why", r.Why))
}

func sentenceFor(o Outcome) (zapcore.Level, string) {
	switch o {
	case Activated:
		return zap.InfoLevel, "The certificate was activated."
	case AlreadyActive:
		return zap.InfoLevel, "The certificate is active already."
	case Duplicate:
		return zap.DebugLevel, "The event is a duplicate."
	case Postponed:
		return zap.DebugLevel, "The certificate has to wait."
	case Refused:
		return zap.WarnLevel, "The certificate was refused and is INACTIVE."
	case Stopped:
		return zap.WarnLevel, "The certificate was left as it is."
	case NotYetValid:
		return zap.WarnLevel, "The certificate is not valid yet."
	case Unknown:
		return zap.WarnLevel, "The event is not for this function."
	default:
		return zap.ErrorLevel, "The certificate could not be decided on."
	}
}
