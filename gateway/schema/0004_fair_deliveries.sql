-- The oldest waiting deliveries of each endpoint, without reading those of an endpoint that has many.
CREATE INDEX ON gateway.deliveries (endpoint_id, next_at, id) WHERE state = 'waiting';
