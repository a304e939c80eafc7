-- The table of docs/legacy-service.md as a Supabase project has it: roles, grants, one table a test.
create role anon nologin;
create role reader nologin;
create role service_role nologin bypassrls;
create role authenticator login noinherit password 'fake-password';
create role shut_out login noinherit password 'fake-password';
grant anon, reader, service_role to authenticator, shut_out;

create table midbot_images (
    id uuid primary key default gen_random_uuid(),
    job_id text,
    image_index int,
    review_status text default 'downloaded',
    auto_review_status text,
    auto_review_details text,
    created_at timestamptz default now(),
    updated_at timestamptz,
    actual_image_url text
);
do $$
declare name text;
begin
    foreach name in array array['paging', 'claiming', 'settling', 'keys', 'lost_answers', 'whole',
                                'hidden', 'readable', 'ruled', 'stamped', 'choosing',
                                'sending_back', 'lost_changes', 'chosen',
                                'stamped_review'] loop
        execute format('create table %I (like midbot_images including all)', name);
    end loop;
end $$;

-- A table that came to be otherwise: names of its own, text ids, times without zone.
create table old_pictures (
    picture text primary key,
    job text,
    n bigint,
    state text,
    verdict text,
    why text,
    made timestamp default (now() at time zone 'utc'),
    touched timestamp
);
create table lacking (id uuid primary key, review_status text);

grant select, insert, update, delete on all tables in schema public to service_role;
grant select, update on hidden to reader;
grant select on readable to reader;

-- `reader` may read and not write, and PostgreSQL does not say so: an update changes no row.
alter table hidden enable row level security;
create policy reading on hidden for select to reader using (true);

alter table ruled add check (review_status in ('downloaded', 'done'));

-- Many projects have this trigger (`moddatetime`): the table's own clock wins over ours.
create function stamp() returns trigger language plpgsql as $$
begin
    new.updated_at := clock_timestamp();
    return new;
end $$;
create trigger stamp before update on stamped for each row execute function stamp();
create trigger stamp before update on stamped_review for each row execute function stamp();
