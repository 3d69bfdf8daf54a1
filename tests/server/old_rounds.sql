CREATE TABLE adapters (
	run VARCHAR(20) NOT NULL, 
	round INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	PRIMARY KEY (run, round), 
	FOREIGN KEY(run) REFERENCES runs (run)
);
INSERT INTO "adapters" VALUES('9223372036854775812',1,'a.npz','00');
INSERT INTO "adapters" VALUES('9223372036854775813',1,'b.npz','01');
CREATE TABLE attempts (
	run VARCHAR(20) NOT NULL, 
	round INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	started DOUBLE NOT NULL, 
	finished DOUBLE, 
	updates INTEGER NOT NULL, 
	adapter_norm DOUBLE, 
	PRIMARY KEY (run, round, attempt), 
	FOREIGN KEY(run) REFERENCES runs (run)
);
INSERT INTO "attempts" VALUES('9223372036854775812',1,1,'finished','',1000.0,1000.0,1,0.5);
INSERT INTO "attempts" VALUES('9223372036854775813',1,1,'finished','',1010.0,1010.0,2,0.5);
INSERT INTO "attempts" VALUES('9223372036854775813',2,1,'open','',1010.0,NULL,0,NULL);
CREATE TABLE cohorts (
	study_digest VARCHAR(64) NOT NULL, 
	round INTEGER NOT NULL, 
	sites TEXT NOT NULL, 
	PRIMARY KEY (study_digest, round)
);
INSERT INTO "cohorts" VALUES('b3e66baae767bdffaf7ae344148915d2f7d86d4fdbb7e17e370c9f16657a5417',1,'harbour,north');
CREATE TABLE failures (
	run VARCHAR(20) NOT NULL, 
	message TEXT NOT NULL, 
	hint TEXT NOT NULL, 
	error VARCHAR(64) NOT NULL, 
	PRIMARY KEY (run), 
	FOREIGN KEY(run) REFERENCES runs (run)
);
CREATE TABLE ledgers (
	public_key VARCHAR(64) NOT NULL, 
	ledger VARCHAR(32) NOT NULL, 
	length VARCHAR(20) NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	PRIMARY KEY (public_key)
);
CREATE TABLE parts (
	run VARCHAR(20) NOT NULL, 
	round INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	site VARCHAR(32) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	exchange VARCHAR(16) NOT NULL, 
	epsilon DOUBLE, 
	PRIMARY KEY (run, round, attempt, site), 
	FOREIGN KEY(run) REFERENCES runs (run)
);
INSERT INTO "parts" VALUES('9223372036854775812',1,1,'north','starting','','',NULL);
INSERT INTO "parts" VALUES('9223372036854775813',1,1,'north','starting','','',NULL);
INSERT INTO "parts" VALUES('9223372036854775813',1,1,'harbour','starting','','',NULL);
INSERT INTO "parts" VALUES('9223372036854775813',2,1,'north','starting','','',NULL);
INSERT INTO "parts" VALUES('9223372036854775813',2,1,'harbour','starting','','',NULL);
CREATE TABLE phases (
	run VARCHAR(20) NOT NULL, 
	phase VARCHAR(32) NOT NULL, 
	seconds DOUBLE NOT NULL, 
	PRIMARY KEY (run, phase), 
	FOREIGN KEY(run) REFERENCES runs (run)
);
INSERT INTO "phases" VALUES('9223372036854775813','training',2.0);
CREATE TABLE runs (
	run VARCHAR(20) NOT NULL, 
	study VARCHAR(64) NOT NULL, 
	study_digest VARCHAR(64) NOT NULL, 
	rounds INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	message TEXT NOT NULL, 
	started DOUBLE NOT NULL, 
	finished DOUBLE, 
	PRIMARY KEY (run)
);
INSERT INTO "runs" VALUES('9223372036854775812','test-study','b3e66baae767bdffaf7ae344148915d2f7d86d4fdbb7e17e370c9f16657a5417',2,'finished','',1000.0,1000.0);
INSERT INTO "runs" VALUES('9223372036854775813','test-study','b3e66baae767bdffaf7ae344148915d2f7d86d4fdbb7e17e370c9f16657a5417',2,'running','',1010.0,NULL);
CREATE TABLE sites (
	run VARCHAR(20) NOT NULL, 
	name VARCHAR(32) NOT NULL, 
	node VARCHAR(20) NOT NULL, 
	declared_patients INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	epsilon DOUBLE NOT NULL, 
	budget DOUBLE NOT NULL, 
	delta DOUBLE NOT NULL, 
	masked BOOLEAN NOT NULL, 
	PRIMARY KEY (run, name), 
	FOREIGN KEY(run) REFERENCES runs (run)
);
INSERT INTO "sites" VALUES('9223372036854775812','north','',500,'expected','',0.0,0.0,0.0,0);
INSERT INTO "sites" VALUES('9223372036854775812','harbour','',800,'expected','',0.0,0.0,0.0,0);
INSERT INTO "sites" VALUES('9223372036854775812','hillside','',1200,'expected','',0.0,0.0,0.0,0);
INSERT INTO "sites" VALUES('9223372036854775813','north','',500,'expected','',0.0,0.0,0.0,0);
INSERT INTO "sites" VALUES('9223372036854775813','harbour','',800,'expected','',0.0,0.0,0.0,0);
INSERT INTO "sites" VALUES('9223372036854775813','hillside','',1200,'expected','',0.0,0.0,0.0,0);
