%% @doc What `sys:get_status/1' and reports of a crash show of a process that handles a user's
%% values: which it is, and nothing that came from Python or goes there.
%% @hidden
-module(py_status).

-export([without_values/1, without_mail/1]).

%% @doc A status for `format_status/1' of a gen_server.
-spec without_values(gen_server:format_status()) -> gen_server:format_status().
without_values(Status) ->
    maps:map(fun hidden/2, Status).

hidden(state, State) -> {name(State), hidden};
hidden(message, Message) -> {name(Message), hidden};
hidden(log, _) -> [];
hidden(reason, {Reason, [_ | _] = Stack}) -> {name(Reason), [without_arguments(Entry) || Entry <- Stack]};
hidden(_, Value) -> Value.

%% @doc To be called when a process that handles values ends: a report of its crash shows its mail.
-spec without_mail(Reason :: term()) -> ok.
without_mail(Reason) when Reason =:= normal; Reason =:= shutdown; element(1, Reason) =:= shutdown ->
    ok;
without_mail(Reason) ->
    receive
        _ -> without_mail(Reason)
    after 0 -> ok
    end.

name(Tuple) when is_tuple(Tuple), is_atom(element(1, Tuple)) -> element(1, Tuple);
name(Atom) when is_atom(Atom) -> Atom;
name(_) -> term.

without_arguments({M, F, Arguments, Location}) when is_list(Arguments) -> {M, F, length(Arguments), Location};
without_arguments(Entry) -> Entry.
