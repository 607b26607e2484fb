package iotcore

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

type validity struct {
	NotBefore float64 `json:"notBefore"`
	NotAfter  float64 `json:"notAfter"`
}

func (a *api) describeEndpoint(r *awsapi.Request) (any, error) {
	kind := r.URL.Query().Get("endpointType")
	switch kind {
	case "", "iot:Data-ATS", "iot:Data-Beta":
	default:
		return nil, invalidRequest("Endpoint type %s is not supported; use iot:Data-ATS", kind)
	}
	// AWS gives a host; ours needs its port where that is not the usual one.
	address := a.MQTTAddr()
	if host, port, err := net.SplitHostPort(address); err == nil && port == "8883" {
		address = host
	}
	return map[string]string{"endpointAddress": address}, nil
}

func (a *api) getRegistrationCode(*awsapi.Request) (any, error) {
	return map[string]string{"registrationCode": a.registry.registrationCode()}, nil
}

func (a *api) deleteRegistrationCode(*awsapi.Request) (any, error) {
	return nil, a.registry.deleteRegistrationCode()
}

func (a *api) registerCACertificate(r *awsapi.Request) (any, error) {
	var in struct {
		CACertificate, VerificationCertificate, CertificateMode string
		Tags                                                    []tag
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	q := r.URL.Query()
	rec, err := a.registry.registerCA(caRegistration{
		caPEM: in.CACertificate, verificationPEM: in.VerificationCertificate, mode: in.CertificateMode, tags: tagMap(in.Tags),
		active: q.Get("setAsActive") == "true", autoReg: q.Get("allowAutoRegistration") == "true",
	})
	if err != nil {
		return nil, err
	}
	return map[string]string{"certificateId": rec.ID, "certificateArn": a.registry.arn("cacert", rec.ID)}, nil
}

func (a *api) describeCACertificate(r *awsapi.Request) (any, error) {
	rec, err := a.registry.ca(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	autoReg := "DISABLE"
	if rec.AutoReg {
		autoReg = "ENABLE"
	}
	return map[string]any{"certificateDescription": struct {
		CertificateARN         string   `json:"certificateArn"`
		CertificateID          string   `json:"certificateId"`
		Status                 status   `json:"status"`
		CertificatePEM         string   `json:"certificatePem"`
		OwnedBy                string   `json:"ownedBy"`
		CreationDate           float64  `json:"creationDate"`
		AutoRegistrationStatus string   `json:"autoRegistrationStatus"`
		LastModifiedDate       float64  `json:"lastModifiedDate"`
		CustomerVersion        int      `json:"customerVersion"`
		Validity               validity `json:"validity"`
		CertificateMode        string   `json:"certificateMode"`
	}{
		a.registry.arn("cacert", rec.ID), rec.ID, rec.Status, rec.PEM, a.cfg.Account, awsapi.Epoch(rec.CreatedAt), autoReg,
		awsapi.Epoch(rec.ModifiedAt), rec.Version, validity{awsapi.Epoch(rec.NotBefore), awsapi.Epoch(rec.NotAfter)}, rec.Mode,
	}}, nil
}

func (a *api) updateCACertificate(r *awsapi.Request) (any, error) {
	var newStatus *status
	var autoReg *bool
	switch s := status(r.URL.Query().Get("newStatus")); s {
	case "":
	case statusActive, statusInactive:
		newStatus = &s
	default:
		return nil, invalidRequest("newStatus %q is neither ACTIVE nor INACTIVE", s)
	}
	switch s := r.URL.Query().Get("newAutoRegistrationStatus"); s {
	case "":
	case "ENABLE", "DISABLE":
		on := s == "ENABLE"
		autoReg = &on
	default:
		return nil, invalidRequest("newAutoRegistrationStatus %q is neither ENABLE nor DISABLE", s)
	}
	return nil, a.registry.updateCA(r.PathValue("id"), newStatus, autoReg)
}

func (a *api) deleteCACertificate(r *awsapi.Request) (any, error) {
	return nil, a.registry.deleteCA(r.PathValue("id"))
}

// listed is a certificate in a list.
type listed struct {
	CertificateARN  string    `json:"certificateArn"`
	CertificateID   string    `json:"certificateId"`
	Status          status    `json:"status"`
	CertificateMode string    `json:"certificateMode,omitempty"`
	CreationDate    float64   `json:"creationDate"`
	created         time.Time // for the order
}

func (a *api) listCACertificates(r *awsapi.Request) (any, error) {
	var all []listed
	for _, rec := range a.registry.cas() {
		all = append(all, listed{a.registry.arn("cacert", rec.ID), rec.ID, rec.Status, "", awsapi.Epoch(rec.CreatedAt), rec.CreatedAt})
	}
	return page(r, all)
}

func (a *api) listCertificates(r *awsapi.Request) (any, error) {
	return a.list(r, func(*certificateRecord) bool { return true })
}

func (a *api) listCertificatesByCA(r *awsapi.Request) (any, error) {
	ca := r.PathValue("id")
	return a.list(r, func(c *certificateRecord) bool { return c.CAID == ca })
}

func (a *api) list(r *awsapi.Request, keep func(*certificateRecord) bool) (any, error) {
	var all []listed
	for _, rec := range a.registry.certificates(keep) {
		all = append(all, listed{a.registry.arn("cert", rec.ID), rec.ID, rec.Status, rec.Mode, awsapi.Epoch(rec.CreatedAt), rec.CreatedAt})
	}
	return page(r, all)
}

// page cuts a list, newest first, into pages. The marker is the id of the
// last one given.
func page(r *awsapi.Request, all []listed) (any, error) {
	const defaultSize, maxSize = 25, 250 // AWS API reference, ListCertificates
	q := r.URL.Query()
	size, err := awsapi.PageSize(q.Get("pageSize"), defaultSize, maxSize)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(x, y listed) int {
		return cmp.Or(y.created.Compare(x.created), cmp.Compare(x.CertificateID, y.CertificateID))
	})
	if q.Get("isAscendingOrder") == "true" {
		slices.Reverse(all)
	}
	if marker := q.Get("marker"); marker != "" {
		i := slices.IndexFunc(all, func(l listed) bool { return l.CertificateID == marker })
		if i < 0 {
			return nil, invalidRequest("marker is not valid")
		}
		all = all[i+1:]
	}
	out := map[string]any{}
	if len(all) > size {
		all = all[:size]
		out["nextMarker"] = all[size-1].CertificateID
	}
	if all == nil {
		all = []listed{}
	}
	out["certificates"] = all
	return out, nil
}

func (a *api) registerCertificate(r *awsapi.Request) (any, error) { return a.register(r, false) }

func (a *api) registerCertificateWithoutCA(r *awsapi.Request) (any, error) {
	return a.register(r, true)
}

func (a *api) register(r *awsapi.Request, withoutCA bool) (any, error) {
	var in struct {
		CertificatePEM, CACertificatePEM string
		Status                           status
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	if in.Status == "" && r.URL.Query().Get("setAsActive") == "true" {
		in.Status = statusActive
	}
	rec, err := a.registry.registerCertificate(in.CertificatePEM, in.CACertificatePEM, in.Status, withoutCA)
	if err != nil {
		return nil, err
	}
	return map[string]string{"certificateId": rec.ID, "certificateArn": a.registry.arn("cert", rec.ID)}, nil
}

func (a *api) describeCertificate(r *awsapi.Request) (any, error) {
	rec, err := a.registry.certificate(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return map[string]any{"certificateDescription": struct {
		CertificateARN   string   `json:"certificateArn"`
		CertificateID    string   `json:"certificateId"`
		CACertificateID  string   `json:"caCertificateId,omitempty"`
		Status           status   `json:"status"`
		CertificatePEM   string   `json:"certificatePem"`
		OwnedBy          string   `json:"ownedBy"`
		CreationDate     float64  `json:"creationDate"`
		LastModifiedDate float64  `json:"lastModifiedDate"`
		CustomerVersion  int      `json:"customerVersion"`
		Validity         validity `json:"validity"`
		CertificateMode  string   `json:"certificateMode"`
	}{
		a.registry.arn("cert", rec.ID), rec.ID, rec.CAID, rec.Status, rec.PEM, a.cfg.Account, awsapi.Epoch(rec.CreatedAt),
		awsapi.Epoch(rec.ModifiedAt), rec.Version, validity{awsapi.Epoch(rec.NotBefore), awsapi.Epoch(rec.NotAfter)}, rec.Mode,
	}}, nil
}

func (a *api) updateCertificate(r *awsapi.Request) (any, error) {
	id, st := r.PathValue("id"), status(r.URL.Query().Get("newStatus"))
	if a.cfg.Activation.never && st == statusActive {
		return nil, awsapi.Refuse(http.StatusServiceUnavailable, "ServiceUnavailableException", "The emulator runs with --activate-after never")
	}
	if err := a.registry.updateCertificate(id, st); err != nil {
		return nil, err
	}
	if st != statusActive {
		a.dropCertificate(id)
	}
	return nil, nil
}

func (a *api) deleteCertificate(r *awsapi.Request) (any, error) {
	return nil, a.registry.deleteCertificate(r.PathValue("id"))
}
