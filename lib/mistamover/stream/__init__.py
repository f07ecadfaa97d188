"""One data stream: from arrivals over the decision and the delivery to the ledger and the removal."""
